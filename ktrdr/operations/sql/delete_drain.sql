DELETE FROM drains WHERE target = %(target)s RETURNING *
