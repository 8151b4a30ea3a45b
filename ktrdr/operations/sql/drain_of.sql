-- Handing over wins over finishing, where both a worker and its node were asked.
SELECT mode FROM drains WHERE target = ANY(%(targets)s) ORDER BY mode DESC LIMIT 1
