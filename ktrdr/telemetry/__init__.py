"""Logs, traces and metrics of the runtime; imported by entry points."""
