"""Benchmarks of deploys, compared with plain ssh, pyinfra and Ansible on the same hosts."""
