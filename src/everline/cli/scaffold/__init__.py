"""What `everline init` writes: files with two names in them, and sample data that is the same everywhere."""
