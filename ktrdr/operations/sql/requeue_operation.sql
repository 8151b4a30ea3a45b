-- An operation to be cancelled cannot be claimed, so it would wait in the queue for ever. It is cancelled instead.
UPDATE operations
SET status = CASE WHEN cancel_requested_at IS NULL THEN 'pending' ELSE 'cancelled' END,
    finished_at = CASE WHEN cancel_requested_at IS NULL THEN NULL ELSE now() END,
    worker_id = CASE WHEN cancel_requested_at IS NULL THEN NULL ELSE worker_id END,
    lease_until = NULL,
    queued_at = now()
WHERE operation_id = %(operation_id)s AND lease_epoch = %(lease_epoch)s AND status = 'running'
RETURNING *
