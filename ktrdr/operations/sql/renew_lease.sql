UPDATE operations
SET lease_until = now() + make_interval(secs => %(lease_s)s),
    progress = coalesce(%(progress)s, progress),
    progress_message = coalesce(%(message)s, progress_message)
WHERE operation_id = %(operation_id)s AND lease_epoch = %(lease_epoch)s AND status = 'running'
RETURNING cancel_requested_at, (
    SELECT mode FROM drains WHERE target = ANY(%(drain_targets)s) ORDER BY mode DESC LIMIT 1
) AS drain
