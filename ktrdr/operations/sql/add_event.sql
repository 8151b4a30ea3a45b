INSERT INTO operation_events (operation_id, kind, status, progress, message)
VALUES (%(operation_id)s, %(kind)s, %(status)s, %(progress)s, %(message)s)
