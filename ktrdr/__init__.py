"""KTRDR: a research platform for trading strategies, and the tool that deploys it."""
