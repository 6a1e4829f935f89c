"""How models of one framework are written into a package and read back: one module per framework."""
