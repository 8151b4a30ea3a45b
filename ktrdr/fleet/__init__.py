"""Registered workers: registry, health checks, and the tasks of the leading backend."""
