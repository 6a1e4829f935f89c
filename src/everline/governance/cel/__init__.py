"""Our subset of the Common Expression Language, with a third value for what is not known."""
