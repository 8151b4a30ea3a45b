SELECT * FROM operations WHERE operation_id = %(operation_id)s FOR UPDATE
