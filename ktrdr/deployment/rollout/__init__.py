"""Carries out the plans of a deploy, host by host, and goes back where that fails."""
