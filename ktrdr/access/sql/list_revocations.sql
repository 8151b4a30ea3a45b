SELECT token_id, expires_at, revoked_by, revoked_at FROM revoked_tokens
WHERE expires_at > now() ORDER BY revoked_at
