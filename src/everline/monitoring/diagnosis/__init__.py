"""From the alarm to the cause: what changed, since when, and what it did to the predictions."""
