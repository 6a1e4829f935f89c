"""Models in a second form that answers fast: compiled when they are packaged, kept only if the answers are the same."""
