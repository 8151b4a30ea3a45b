"""Pure builders of remote scripts."""
