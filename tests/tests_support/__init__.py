"""What tests share and fixtures do not fit."""
