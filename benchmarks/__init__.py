"""Benchmarks, run by hand: they print and store figures, and assert none."""
