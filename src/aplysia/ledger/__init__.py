"""What a rule costs a chip: exact counts by layer and phase, and what they come to on chips whose numbers are published."""
