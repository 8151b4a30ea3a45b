"""Who may do what, and who did it: revoked tokens, failed attempts, the audit trail."""
