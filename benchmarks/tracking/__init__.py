"""Tracking and registry, MLflow's server and Everline under the same official client."""
