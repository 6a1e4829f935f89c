"""Versions of data: Everline beside DVC, Git LFS, restic, borg and Oxen, on one disk."""
