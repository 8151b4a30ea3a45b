DELETE FROM operation_checkpoints WHERE operation_id = %(operation_id)s
