"""Faults on purpose: many operations on real processes while something always breaks."""
