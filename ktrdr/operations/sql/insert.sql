-- Each row its own moment, so that what comes together is listed in the order in which it came.
INSERT INTO operations (operation_id, operation_type, worker_type, parameters, idempotency_key, submitted_by,
                        traceparent, parent_id, part_number, created_at)
SELECT r.operation_id, r.operation_type, r.worker_type, r.parameters, r.idempotency_key, %(submitted_by)s,
       %(traceparent)s, r.parent_id, r.part_number, clock_timestamp()
FROM ROWS FROM (
    jsonb_to_recordset(%(rows)s) AS (
        operation_id text, operation_type text, worker_type text, parameters jsonb, idempotency_key text,
        parent_id text, part_number integer
    )
) WITH ORDINALITY AS r
ORDER BY r.ordinality
ON CONFLICT (idempotency_key) DO NOTHING
RETURNING *
