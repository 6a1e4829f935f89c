"""Endpoints and their revisions, the prediction log, feedback, and the serving process."""
