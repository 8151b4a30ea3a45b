"""Fuzz test: requests generated from the API's documentation, and responses checked against it."""
