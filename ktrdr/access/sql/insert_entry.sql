INSERT INTO audit (actor, role, token_id, action, subject, detail)
VALUES (%(actor)s, %(role)s, %(token_id)s, %(action)s, %(subject)s, %(detail)s)
