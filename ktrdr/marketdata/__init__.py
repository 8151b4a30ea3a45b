"""Market data: CSV files of bars under the shared directory."""
