"""Secret sources: 1Password, files that age or SOPS has encrypted, and the environment."""
