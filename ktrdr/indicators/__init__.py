"""Indicators computed from bars, shared by strategies and models."""
