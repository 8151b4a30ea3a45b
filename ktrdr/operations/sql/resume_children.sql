WITH locked AS (
    SELECT operation_id FROM operations
    WHERE parent_id = %(operation_id)s AND status IN ('failed', 'cancelled')
    ORDER BY part_number FOR UPDATE
)
UPDATE operations AS o
SET status = 'pending', finished_at = NULL, cancel_requested_at = NULL, error = NULL,
    worker_id = NULL, setbacks = 0, retry_reason = NULL, not_before = NULL, queued_at = now()
FROM locked WHERE o.operation_id = locked.operation_id
RETURNING o.*
