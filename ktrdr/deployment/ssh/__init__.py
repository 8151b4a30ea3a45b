"""Run scripts on hosts through the OpenSSH client."""
