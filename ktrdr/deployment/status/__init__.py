"""Query what runs on hosts."""
