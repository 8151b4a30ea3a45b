UPDATE operations
SET status = 'running',
    lease_epoch = lease_epoch + 1,
    lease_until = now() + make_interval(secs => %(lease_s)s),
    worker_id = %(worker_id)s,
    attempt = attempt + 1,
    started_at = coalesce(started_at, now())
WHERE operation_id = %(operation_id)s
  AND status IN ('pending', 'running')
  AND cancel_requested_at IS NULL
  AND (lease_until IS NULL OR lease_until < now())
RETURNING *, extract(epoch FROM now() - queued_at)::float8 AS queued_s
