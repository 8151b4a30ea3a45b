"""Which hosts there are, and what is to stand on them: what the operator has written down."""
