"""One window judged: by blocks of dependent rows, by its quality, and as one more bet in a sequence."""
