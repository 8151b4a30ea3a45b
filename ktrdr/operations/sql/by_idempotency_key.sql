SELECT * FROM operations WHERE idempotency_key = %(idempotency_key)s
