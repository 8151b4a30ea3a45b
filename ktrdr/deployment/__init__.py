"""Everything about hosts: what is to be done, how it is told to them, what came of it."""
