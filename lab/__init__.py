"""The lab: a homelab on this machine, with three hosts, a registry and a vault.

OpenSSH, Docker, Compose, PostgreSQL and Prometheus are real. Programs that are not available are
replaced by stand-ins, which say so. Nothing in `ktrdr` depends on the lab.
"""
