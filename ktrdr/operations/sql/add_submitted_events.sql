INSERT INTO operation_events (operation_id, kind, status, progress, message)
SELECT operation_id, 'submitted', 'pending', 0, %(message)s
FROM unnest(%(operation_ids)s::text[]) AS operation_id
