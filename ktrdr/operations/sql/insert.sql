-- Each row its own moment, so that what comes together is listed in the order in which it came.
WITH given AS (
    SELECT r.*
    FROM ROWS FROM (
        jsonb_to_recordset(%(rows)s) AS (
            operation_id text, operation_type text, worker_type text, parameters jsonb,
            idempotency_key text, parent_id text, part_number integer
        )
    ) WITH ORDINALITY AS r
    ORDER BY r.ordinality
),
inserted AS (
    INSERT INTO operations (operation_id, operation_type, worker_type, parameters, idempotency_key,
                            submitted_by, traceparent, parent_id, part_number, created_at)
    SELECT operation_id, operation_type, worker_type, parameters, idempotency_key,
           %(submitted_by)s, %(traceparent)s, parent_id, part_number, clock_timestamp()
    FROM given
    ON CONFLICT (idempotency_key) DO NOTHING
    RETURNING *
),
told AS (
    INSERT INTO operation_events (operation_id, kind, status, progress, message)
    SELECT operation_id, 'submitted', status, progress, 'by ' || submitted_by FROM inserted
)
SELECT * FROM inserted ORDER BY created_at
