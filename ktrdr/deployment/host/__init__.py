"""What a host keeps and runs: its lock, its history, its containers."""
