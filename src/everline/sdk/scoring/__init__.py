"""Batch scoring. A folder of its own, for a pipeline's folder is what a rebuild puts first on its path."""
