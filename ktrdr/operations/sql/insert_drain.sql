INSERT INTO drains (target, mode, requested_by) VALUES (%(target)s, %(mode)s, %(requested_by)s)
ON CONFLICT (target) DO UPDATE
SET mode = excluded.mode, requested_by = excluded.requested_by, requested_at = now()
RETURNING *
