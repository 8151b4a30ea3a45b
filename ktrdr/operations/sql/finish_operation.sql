UPDATE operations
SET status = %(status)s,
    finished_at = now(),
    lease_until = NULL,
    progress = CASE WHEN %(status)s = 'completed' THEN 1 ELSE progress END,
    result = %(result)s,
    error = %(error)s
WHERE operation_id = %(operation_id)s AND lease_epoch = %(lease_epoch)s AND status = 'running'
RETURNING *
