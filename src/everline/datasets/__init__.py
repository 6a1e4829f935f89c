"""Named series of immutable data snapshots."""
