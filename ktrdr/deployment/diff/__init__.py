"""Compare a release with what runs on hosts."""
