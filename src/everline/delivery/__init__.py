"""Delivery as code: what a repository's `everline.toml` declares, and making it so in one transaction."""
