-- Whoever looks at the whole sees it running as soon as one part of it is.
UPDATE operations SET status = 'running', started_at = coalesce(started_at, now())
WHERE operation_id = %(parent_id)s AND status = 'pending'
