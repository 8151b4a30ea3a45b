"""How fast a deploy is, beside plain ssh, pyinfra and Ansible doing the same on the same hosts."""
