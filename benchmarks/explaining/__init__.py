"""Replays, comparisons and explanations: `python -m benchmarks explaining`."""
