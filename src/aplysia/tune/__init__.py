"""Searching settings: `aplysia tune` gives every rule the same number of trials, and writes the best as a recipe file."""
