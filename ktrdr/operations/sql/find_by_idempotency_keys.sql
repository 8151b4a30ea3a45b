SELECT * FROM operations WHERE idempotency_key = ANY(%(keys)s)
