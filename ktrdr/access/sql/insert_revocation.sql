INSERT INTO revoked_tokens (token_id, expires_at, revoked_by)
VALUES (%(token_id)s, %(expires_at)s, %(revoked_by)s)
ON CONFLICT (token_id) DO NOTHING
