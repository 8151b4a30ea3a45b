"""Backtests: walk-forward choice of parameters, a portfolio with costs, and statistics."""
