"""Indicators: figures about the bars up to a bar, shared by strategies and models."""
