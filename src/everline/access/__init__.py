"""Who may do what: users, tokens, roles, projects, and the unit of work that carries them."""
