-- Only the checked registration is updated, because the worker may have registered elsewhere since.
-- Rows are always locked in the same order, so that two backends cannot deadlock.
WITH checked AS (
    SELECT results.* FROM jsonb_to_recordset(%(checked)s) AS results (
        worker_id text, endpoint_url text, version text, current_operation_id text,
        clock_skew_s double precision, problem text
    )
    JOIN workers USING (worker_id, endpoint_url)
    ORDER BY worker_id
    FOR UPDATE OF workers
)
UPDATE workers
SET last_healthy_at = now(), health_check_failures = 0, unavailable = false,
    version = checked.version, current_operation_id = checked.current_operation_id,
    clock_skew_s = checked.clock_skew_s, problem = checked.problem
FROM checked
WHERE workers.worker_id = checked.worker_id AND workers.endpoint_url = checked.endpoint_url
