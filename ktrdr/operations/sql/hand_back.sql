UPDATE operations
SET status = 'pending', lease_until = NULL, worker_id = NULL, queued_at = now()
WHERE operation_id = %(operation_id)s AND lease_epoch = %(lease_epoch)s AND status = 'running'
RETURNING *
