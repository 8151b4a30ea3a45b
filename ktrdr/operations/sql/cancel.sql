-- A pending operation ends at once; a running one when its worker has stopped the child.
UPDATE operations
SET cancel_requested_at = coalesce(cancel_requested_at, now()),
    status = CASE status WHEN 'pending' THEN 'cancelled' ELSE status END,
    finished_at = CASE status WHEN 'pending' THEN now() END
WHERE operation_id = %(operation_id)s AND status IN ('pending', 'running')
RETURNING *
