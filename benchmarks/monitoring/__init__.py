"""What monitoring promises, measured on the real flights."""
