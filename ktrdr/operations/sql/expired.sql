-- Operations whose worker fell silent; locked, so that a renewal that comes late waits and then loses.
SELECT * FROM operations
WHERE status = 'running' AND lease_until < now()
ORDER BY lease_until
LIMIT %(limit)s
FOR UPDATE SKIP LOCKED
