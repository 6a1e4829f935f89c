"""Measured, not claimed: each module measures Everline and a peer side by side in one run and prints the ratio."""
