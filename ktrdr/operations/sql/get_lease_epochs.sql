SELECT operation_id, status, lease_epoch FROM operations WHERE operation_id = ANY(%(operation_ids)s)
