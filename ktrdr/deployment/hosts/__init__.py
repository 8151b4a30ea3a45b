"""Hosts: their identity, lock, history and containers."""
