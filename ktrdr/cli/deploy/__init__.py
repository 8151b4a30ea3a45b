"""The commands of `ktrdr deploy`."""
