-- An expired lease that the reaper has not handled yet is counted as a failure here, because this claim replaces it.
-- The claim and its event are one statement: every waiting operation waits for it.
WITH claimed AS (
    UPDATE operations AS o
    SET status = 'running',
        lease_epoch = lease_epoch + 1,
        lease_until = now() + make_interval(secs => %(lease_s)s),
        worker_id = %(worker_id)s,
        attempt = attempt + 1,
        setbacks = setbacks + CASE WHEN lease_until < now() THEN 1 ELSE 0 END,
        not_before = NULL,
        started_at = coalesce(started_at, now())
    WHERE operation_id = %(operation_id)s
      AND status IN ('pending', 'running')
      AND cancel_requested_at IS NULL
      AND (lease_until IS NULL OR lease_until < now())
      AND (not_before IS NULL OR not_before <= now())
      AND NOT EXISTS (
          SELECT FROM operations AS child
          WHERE child.parent_id = o.operation_id AND child.status IN ('pending', 'running')
      )
      AND NOT EXISTS (SELECT FROM drains WHERE target = ANY(%(drain_targets)s))
    RETURNING *
),
event AS (
    INSERT INTO operation_events (operation_id, kind, status, progress, message)
    SELECT operation_id, 'started', status, progress, 'on ' || worker_id || ', attempt ' || attempt
    FROM claimed
)
SELECT operation_id, operation_type, parameters, lease_epoch, attempt, traceparent, parent_id,
       greatest(extract(epoch FROM now() - queued_at), 0)::float8 AS queued_s
FROM claimed
