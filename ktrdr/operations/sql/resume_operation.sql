UPDATE operations
SET status = 'pending', finished_at = NULL, cancel_requested_at = NULL, error = NULL,
    worker_id = NULL, setbacks = 0, retry_reason = NULL, not_before = NULL, queued_at = now()
WHERE operation_id = %(operation_id)s AND status IN ('failed', 'cancelled')
RETURNING *
