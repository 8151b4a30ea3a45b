"""Chaos tests: operations on real processes under injected faults."""
