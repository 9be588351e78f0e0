"""Whose spiking modules are recognised: one file for each library."""
