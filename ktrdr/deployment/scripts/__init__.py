"""Shell scripts that run on hosts, and their rendering."""
