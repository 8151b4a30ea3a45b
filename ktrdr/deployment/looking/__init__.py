"""Asks hosts, and changes nothing on them."""
