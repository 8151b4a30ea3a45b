SELECT status, operation_type, count(*) AS number, extract(epoch FROM now() - min(queued_at)) AS oldest_s
FROM operations
WHERE status IN ('pending', 'running')
GROUP BY status, operation_type
