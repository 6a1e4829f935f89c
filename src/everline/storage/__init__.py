"""Where things are kept: the database's connections and column types, and content-addressed blobs."""
