-- 'hand_over' takes precedence over 'finish' when both a worker and its node are drained.
SELECT mode FROM drains WHERE target = ANY(%(targets)s) ORDER BY mode DESC LIMIT 1
