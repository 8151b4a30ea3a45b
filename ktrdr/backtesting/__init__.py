"""Backtests: a strategy, walk-forward choice of its windows, an engine with costs, statistics."""
