"""Deploys to hosts: plans, the scripts that run there, SSH, secret sources, and queries."""
