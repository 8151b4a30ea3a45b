SELECT w.*, (
    SELECT mode FROM drains AS d WHERE d.target IN (w.worker_id, w.node) ORDER BY mode DESC LIMIT 1
) AS drain
FROM workers AS w
WHERE (%(worker_type)s::text IS NULL OR w.worker_type = %(worker_type)s)
ORDER BY w.node, w.worker_id
