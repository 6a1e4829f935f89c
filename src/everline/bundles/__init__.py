"""Evidence bundles: one prediction, model or run with all that a stranger needs to check it, and to do it again."""
