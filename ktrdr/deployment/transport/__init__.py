"""How a script reaches a host."""
