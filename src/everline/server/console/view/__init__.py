"""How pages look: templates, drawings, charts, cards. Knows no service."""
