"""What a host is, what it remembers, and what runs on it."""
