"""Plan a release, roll it out host by host, and roll back on failure."""
