"""Measurements of the whole, run by hand: they print and store figures, and assert nothing."""
