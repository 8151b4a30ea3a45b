SELECT * FROM operations WHERE parent_id = %(operation_id)s ORDER BY part_number
