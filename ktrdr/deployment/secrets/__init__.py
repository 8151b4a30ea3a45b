"""Secret sources: 1Password, files that age or SOPS has encrypted, the environment, a command."""
