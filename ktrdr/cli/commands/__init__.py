"""Command groups, one module or package each, imported on use."""
