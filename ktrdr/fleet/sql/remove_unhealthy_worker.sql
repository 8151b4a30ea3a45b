DELETE FROM workers
WHERE worker_id = %(worker_id)s AND endpoint_url = %(endpoint_url)s
  AND last_healthy_at < now() - make_interval(secs => %(after_s)s)
