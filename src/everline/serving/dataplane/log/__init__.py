"""The prediction log: raw segments before the answer, Parquet and shipping in a second process."""
