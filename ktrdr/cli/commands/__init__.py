"""The command groups, one module each; loaded when one of their commands is used."""
