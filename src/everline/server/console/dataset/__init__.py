"""The pages of one dataset's versions: what one holds and where it goes, and how two differ."""
