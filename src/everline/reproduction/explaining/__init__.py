"""What changed between two runs, and how much of a metric's change each part of it caused."""
