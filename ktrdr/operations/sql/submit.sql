-- Everything that a submission writes, in one statement: one operation needs no transaction around it.
-- Each row has its own moment, so that what comes together is listed in the order in which it came.
WITH given AS (
    SELECT r.*
    FROM ROWS FROM (
        jsonb_to_recordset(%(rows)s) AS (
            operation_id text, operation_type text, worker_type text, parameters jsonb,
            idempotency_key text, parent_id text, part_number integer, queue text
        )
    ) WITH ORDINALITY AS r
),
wholes AS (
    INSERT INTO operations (operation_id, operation_type, worker_type, parameters, idempotency_key,
                            submitted_by, traceparent, created_at)
    SELECT operation_id, operation_type, worker_type, parameters, idempotency_key,
           %(submitted_by)s, %(traceparent)s, clock_timestamp()
    FROM given WHERE parent_id IS NULL ORDER BY ordinality
    ON CONFLICT (idempotency_key) DO NOTHING
    RETURNING *
),
parts AS (
    INSERT INTO operations (operation_id, operation_type, worker_type, parameters,
                            submitted_by, traceparent, parent_id, part_number, created_at)
    SELECT given.operation_id, given.operation_type, given.worker_type, given.parameters,
           %(submitted_by)s, %(traceparent)s, wholes.operation_id, given.part_number, clock_timestamp()
    FROM given JOIN wholes ON given.parent_id = wholes.operation_id ORDER BY given.ordinality
    RETURNING *
),
written AS (SELECT * FROM wholes UNION ALL SELECT * FROM parts),
told AS (
    INSERT INTO operation_events (operation_id, kind, status, progress, message)
    SELECT operation_id, 'submitted', status, progress, 'by ' || submitted_by FROM written
),
-- As ktrdr.access does it, of the first and how many more there are.
noted AS (
    INSERT INTO audit (actor, role, token_id, action, subject, detail)
    SELECT %(submitted_by)s, %(role)s, %(token_id)s, 'operation.submit', (array_agg(operation_id))[1],
           CASE WHEN count(*) > 1 THEN jsonb_build_object('and_more', count(*) - 1) ELSE '{}' END
    FROM written HAVING count(*) > 0
),
-- A whole waits for its parts; whoever ends the last of them wakes a worker for it.
queued AS (
    SELECT procrastinate_defer_jobs_v1(array_agg(
        ROW(given.queue, %(task)s, 0, NULL, NULL,
            jsonb_build_object('operation_id', operation_id), NULL)::procrastinate_job_to_defer_v1
        ORDER BY given.ordinality
    ))
    FROM written JOIN given USING (operation_id)
    WHERE operation_id NOT IN (SELECT parent_id FROM parts)
)
-- Columns by name, here and in claim.sql: both are prepared, and have to outlive migrations.
SELECT operation_id, operation_type, status, parameters, progress, progress_message, worker_id, attempt,
       submitted_by, traceparent, created_at, started_at, finished_at, cancel_requested_at, parent_id,
       not_before, retry_reason, error, (SELECT * FROM queued) AS queue_entries
FROM wholes
