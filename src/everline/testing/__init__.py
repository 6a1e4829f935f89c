"""Simulators of the outside world, for tests and plug-in authors."""
