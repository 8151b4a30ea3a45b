"""The rehearsal homelab: three hosts, a registry and a vault, all on this machine.

Real OpenSSH, Docker, Compose, PostgreSQL and Prometheus; stand-ins, called such, for what cannot be
had here. Nothing in `ktrdr` knows of it.
"""
