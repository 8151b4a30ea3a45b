-- The epoch grows here too, so the previous lease holder's writes are rejected even before the next claim.
UPDATE operations
SET status = %(status)s,
    lease_epoch = lease_epoch + 1,
    lease_until = NULL,
    worker_id = CASE WHEN %(status)s = 'pending' THEN NULL ELSE worker_id END,
    setbacks = setbacks + 1,
    retry_reason = %(reason)s,
    not_before = CASE WHEN %(status)s = 'pending' THEN now() + make_interval(secs => %(delay_s)s) END,
    queued_at = now() + make_interval(secs => %(delay_s)s),
    finished_at = CASE WHEN %(status)s = 'pending' THEN NULL ELSE now() END,
    error = %(error)s
WHERE operation_id = %(operation_id)s
RETURNING *
