"""Measurements, each against a named peer or the bare computation, side by side in one run."""
