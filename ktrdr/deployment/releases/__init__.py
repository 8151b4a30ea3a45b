"""Releases: the local checkout that they come from, their files, and their compose files."""
