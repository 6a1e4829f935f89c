"""The MLflow protocol's faces."""
