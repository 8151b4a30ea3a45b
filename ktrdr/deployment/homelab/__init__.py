"""KTRDR as the product of the deploy engine: inventory, stacks, secrets, health documents."""
