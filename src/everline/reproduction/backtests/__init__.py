"""A candidate over stored traffic: what would have been answered otherwise, and whether that would have been better."""
