WITH checked AS (
    SELECT results.* FROM jsonb_to_recordset(%(checked)s) AS results (
        worker_id text, endpoint_url text, failures integer, unavailable boolean
    )
    JOIN workers USING (worker_id, endpoint_url)
    ORDER BY worker_id
    FOR UPDATE OF workers
)
UPDATE workers
SET health_check_failures = checked.failures, unavailable = checked.unavailable
FROM checked
WHERE workers.worker_id = checked.worker_id AND workers.endpoint_url = checked.endpoint_url
