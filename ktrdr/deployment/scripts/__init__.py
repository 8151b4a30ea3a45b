"""Scripts that run on hosts, and readers of their output."""
