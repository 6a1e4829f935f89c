"""Monitoring: profiles, drift tests, monitors, alerts, incidents and their diagnosis."""
