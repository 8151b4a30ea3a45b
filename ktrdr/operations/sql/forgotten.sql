-- Operations that are ready, and that no entry of the queue will wake a worker for.
SELECT * FROM operations AS o
WHERE o.status IN ('pending', 'running') AND o.lease_until IS NULL
  AND o.queued_at < now() - make_interval(secs => %(older_than_s)s)
  AND NOT EXISTS (
      SELECT FROM operations AS part
      WHERE part.parent_id = o.operation_id AND part.status IN ('pending', 'running')
  )
  AND NOT EXISTS (
      SELECT FROM procrastinate_jobs AS j
      WHERE j.status = 'todo' AND j.args ->> 'operation_id' = o.operation_id
  )
ORDER BY o.queued_at
LIMIT %(limit)s
FOR UPDATE OF o SKIP LOCKED
