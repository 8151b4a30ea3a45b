INSERT INTO operations (operation_id, operation_type, worker_type, parameters, idempotency_key, submitted_by, traceparent)
VALUES (%(operation_id)s, %(operation_type)s, %(worker_type)s, %(parameters)s, %(idempotency_key)s, %(submitted_by)s, %(traceparent)s)
ON CONFLICT (idempotency_key) DO NOTHING
RETURNING *
