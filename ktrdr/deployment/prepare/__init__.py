"""Preparation of hosts for a deploy: Docker, directories, the share, firewall rules."""
