"""Schedules: what sets a pipeline going, and when."""
