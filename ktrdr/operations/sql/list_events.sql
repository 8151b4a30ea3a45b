SELECT * FROM operation_events
WHERE operation_id = %(operation_id)s AND event_id > %(after)s
ORDER BY event_id
LIMIT 500
