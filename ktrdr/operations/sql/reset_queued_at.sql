UPDATE operations SET queued_at = now() WHERE operation_id = %(operation_id)s
