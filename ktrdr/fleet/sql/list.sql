SELECT * FROM workers
WHERE (%(worker_type)s::text IS NULL OR worker_type = %(worker_type)s)
ORDER BY node, worker_id
