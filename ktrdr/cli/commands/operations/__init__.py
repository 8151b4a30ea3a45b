"""`ktrdr operations`: submit work, watch it, fetch what it found."""
