"""Market data: CSV files of bars in the shared directory, with import and validation."""
