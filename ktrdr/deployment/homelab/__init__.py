"""Everything that knows KTRDR: its inventory, stacks, secrets, and health documents."""
