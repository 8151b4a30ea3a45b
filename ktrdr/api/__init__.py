"""The backend's HTTP API."""
