-- Pending operations that no entry of the queue will wake a worker for.
SELECT * FROM operations AS o
WHERE o.status = 'pending'
  AND o.queued_at < now() - make_interval(secs => %(older_than_s)s)
  AND NOT EXISTS (
      SELECT FROM procrastinate_jobs AS j
      WHERE j.status = 'todo' AND j.args ->> 'operation_id' = o.operation_id
  )
ORDER BY o.queued_at
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED
