"""The pages of one run: overview, metrics, system metrics, artifacts, code and environment."""
