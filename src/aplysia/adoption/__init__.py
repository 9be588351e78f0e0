"""A user's own model under our rules: `aplysia.adopt`."""
