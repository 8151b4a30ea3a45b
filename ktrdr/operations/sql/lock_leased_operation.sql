SELECT * FROM operations
WHERE operation_id = %(operation_id)s AND lease_epoch = %(lease_epoch)s AND status = 'running'
FOR UPDATE
