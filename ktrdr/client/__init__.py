"""The backend's HTTP client; no server code."""
