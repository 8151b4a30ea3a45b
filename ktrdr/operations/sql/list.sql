SELECT * FROM operations
WHERE (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(operation_type)s::text IS NULL OR operation_type = %(operation_type)s)
  AND (%(before_at)s::timestamptz IS NULL OR (created_at, operation_id) < (%(before_at)s, %(before_id)s))
ORDER BY created_at DESC, operation_id DESC
LIMIT %(limit)s
