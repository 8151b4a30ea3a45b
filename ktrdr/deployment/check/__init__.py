"""Check everything a deploy depends on; change nothing."""
