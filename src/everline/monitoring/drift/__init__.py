"""Drift tests of a minimum effect, one file per test; all work from counts alone."""
