"""The commands of `ktrdr deploy`: each parses, calls `ktrdr.deployment`, and renders."""
