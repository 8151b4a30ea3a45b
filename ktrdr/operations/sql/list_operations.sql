SELECT * FROM operations
WHERE operation_type = ANY(%(known_types)s)
  AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(operation_type)s::text IS NULL OR operation_type = %(operation_type)s)
  AND (%(parent_id)s::text IS NULL OR parent_id = %(parent_id)s)
  AND (%(include_children)s OR parent_id IS NULL)
  AND (%(worker_id)s::text IS NULL OR worker_id = %(worker_id)s)
  AND (%(submitted_by)s::text IS NULL OR submitted_by = %(submitted_by)s)
  AND (%(before_at)s::timestamptz IS NULL OR (created_at, operation_id) < (%(before_at)s, %(before_id)s))
ORDER BY created_at DESC, operation_id DESC
LIMIT %(limit)s
