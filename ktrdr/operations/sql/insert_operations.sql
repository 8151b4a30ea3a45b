-- Everything that a submission writes, in one statement: a single operation needs no transaction around it.
-- Each row has its own creation time, so that operations submitted together are listed in their order.
WITH submitted AS (
    SELECT r.*
    FROM ROWS FROM (
        jsonb_to_recordset(%(rows)s) AS (
            operation_id text, operation_type text, worker_type text, parameters jsonb,
            idempotency_key text, parent_id text, part_number integer, queue text
        )
    ) WITH ORDINALITY AS r
),
parents AS (
    INSERT INTO operations (operation_id, operation_type, worker_type, parameters, idempotency_key,
                            submitted_by, traceparent, created_at)
    SELECT operation_id, operation_type, worker_type, parameters, idempotency_key,
           %(submitted_by)s, %(traceparent)s, clock_timestamp()
    FROM submitted WHERE parent_id IS NULL ORDER BY ordinality
    ON CONFLICT (idempotency_key) DO NOTHING
    RETURNING *
),
children AS (
    INSERT INTO operations (operation_id, operation_type, worker_type, parameters,
                            submitted_by, traceparent, parent_id, part_number, created_at)
    SELECT submitted.operation_id, submitted.operation_type, submitted.worker_type, submitted.parameters,
           %(submitted_by)s, %(traceparent)s, parents.operation_id, submitted.part_number, clock_timestamp()
    FROM submitted JOIN parents ON submitted.parent_id = parents.operation_id ORDER BY submitted.ordinality
    RETURNING *
),
written AS (SELECT * FROM parents UNION ALL SELECT * FROM children),
event AS (
    INSERT INTO operation_events (operation_id, kind, status, progress, message)
    SELECT operation_id, 'submitted', status, progress, 'by ' || submitted_by FROM written
),
-- The same row as ktrdr/access/sql/insert_entry.sql writes, for the first operation and the number of others.
audit_entry AS (
    INSERT INTO audit (actor, role, token_id, action, subject, detail)
    SELECT %(submitted_by)s, %(role)s, %(token_id)s, 'operation.submit', (array_agg(operation_id))[1],
           CASE WHEN count(*) > 1 THEN jsonb_build_object('and_more', count(*) - 1) ELSE '{}' END
    FROM written HAVING count(*) > 0
),
-- A parent is not queued: the end of its last child wakes a worker for it.
queued AS (
    SELECT procrastinate_defer_jobs_v1(array_agg(
        ROW(submitted.queue, %(task)s, 0, NULL, NULL,
            jsonb_build_object('operation_id', operation_id), NULL)::procrastinate_job_to_defer_v1
        ORDER BY submitted.ordinality
    ))
    FROM written JOIN submitted USING (operation_id)
    WHERE operation_id NOT IN (SELECT parent_id FROM children)
)
-- Columns are named here and in claim_operation.sql: both statements are prepared and must outlive migrations.
SELECT operation_id, operation_type, status, parameters, progress, progress_message, worker_id, attempt,
       submitted_by, traceparent, created_at, started_at, finished_at, cancel_requested_at, parent_id,
       not_before, retry_reason, error, (SELECT * FROM queued) AS queue_entries
FROM parents
