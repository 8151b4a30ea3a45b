-- Without a lease, no worker runs the operation, so it ends immediately. Otherwise its worker ends it.
UPDATE operations
SET cancel_requested_at = coalesce(cancel_requested_at, now()),
    status = CASE WHEN lease_until IS NULL THEN 'cancelled' ELSE status END,
    finished_at = CASE WHEN lease_until IS NULL THEN now() END,
    not_before = NULL
WHERE operation_id = %(operation_id)s AND status IN ('pending', 'running')
RETURNING *
