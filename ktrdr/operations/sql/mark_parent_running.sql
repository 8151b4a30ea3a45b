-- A parent counts as running as soon as one of its children runs.
UPDATE operations SET status = 'running', started_at = coalesce(started_at, now())
WHERE operation_id = %(parent_id)s AND status = 'pending'
