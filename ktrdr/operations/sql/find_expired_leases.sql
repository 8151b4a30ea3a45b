-- Operations whose worker stopped renewing. They are locked, so that a late renewal waits and is then rejected.
SELECT * FROM operations
WHERE status = 'running' AND lease_until < now()
ORDER BY lease_until
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED
