UPDATE workers
SET health_check_failures = %(failures)s, unavailable = %(unavailable)s
WHERE worker_id = %(worker_id)s AND endpoint_url = %(endpoint_url)s
