SELECT w.*, (
    SELECT mode FROM drains AS d WHERE d.target IN (w.worker_id, w.node) ORDER BY mode DESC LIMIT 1
) AS drain
FROM workers AS w WHERE w.worker_id = %(worker_id)s
