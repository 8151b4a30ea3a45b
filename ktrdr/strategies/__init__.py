"""Strategies as documents: what they say and whether it makes sense. No bar is looked at here."""
