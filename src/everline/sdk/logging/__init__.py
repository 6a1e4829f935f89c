"""`everline.run()`: a buffer in memory, a journal on disk, a sender in the background."""
