"""Access control: revoked tokens, throttling of failed attempts, the audit trail."""
