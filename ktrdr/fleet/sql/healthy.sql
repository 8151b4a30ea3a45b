-- Only the registration that was checked is touched: the worker may have moved in the meantime.
UPDATE workers
SET last_healthy_at = now(), health_check_failures = 0, unavailable = false,
    version = %(version)s, current_operation_id = %(current_operation_id)s
WHERE worker_id = %(worker_id)s AND endpoint_url = %(endpoint_url)s
