"""Resistive devices at the cross points of an array, and the optimiser that moves them by pulses."""
