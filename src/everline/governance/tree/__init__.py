"""The mathematics of the log: Merkle tree, signed roots, and a walk that compares them; no database."""
