-- Operations that are ready to run but have no queue entry that would wake a worker.
SELECT * FROM operations AS o
WHERE o.status IN ('pending', 'running') AND o.lease_until IS NULL
  AND o.queued_at < now() - make_interval(secs => %(older_than_s)s)
  AND NOT EXISTS (
      SELECT FROM operations AS child
      WHERE child.parent_id = o.operation_id AND child.status IN ('pending', 'running')
  )
  AND NOT EXISTS (
      SELECT FROM procrastinate_jobs AS j
      WHERE j.status = 'todo' AND j.args ->> 'operation_id' = o.operation_id
  )
ORDER BY o.queued_at
LIMIT %(limit)s
FOR UPDATE OF o SKIP LOCKED
