"""Models: packages, the registry of immutable versions, their signatures, lineage and cards."""
