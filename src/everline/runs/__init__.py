"""Runs: experiments, runs, parameters, metrics, tags, artifacts, search; capture of code and environment."""
