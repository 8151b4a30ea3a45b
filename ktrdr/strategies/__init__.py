"""Strategies as documents: reading and validating them, without any market data."""
