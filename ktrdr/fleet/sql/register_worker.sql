-- A worker registers again when it restarts, so its failed health checks are reset.
INSERT INTO workers (worker_id, worker_type, endpoint_url, node, capabilities, version, current_operation_id, last_healthy_at)
VALUES (%(worker_id)s, %(worker_type)s, %(endpoint_url)s, %(node)s, %(capabilities)s, %(version)s, %(current_operation_id)s, now())
ON CONFLICT (worker_id) DO UPDATE
SET worker_type = excluded.worker_type, endpoint_url = excluded.endpoint_url, node = excluded.node,
    capabilities = excluded.capabilities, version = excluded.version,
    current_operation_id = excluded.current_operation_id,
    registered_at = now(), last_healthy_at = now(), health_check_failures = 0, unavailable = false, problem = NULL
RETURNING *
