-- Children are locked in the order of their numbers, as everywhere, so that no deadlock arises.
WITH locked AS (
    SELECT operation_id FROM operations
    WHERE parent_id = %(operation_id)s AND status IN ('pending', 'running')
    ORDER BY part_number FOR UPDATE
)
UPDATE operations AS o
SET cancel_requested_at = coalesce(cancel_requested_at, now()),
    status = CASE status WHEN 'pending' THEN 'cancelled' ELSE status END,
    finished_at = CASE status WHEN 'pending' THEN now() END,
    not_before = NULL
FROM locked WHERE o.operation_id = locked.operation_id
RETURNING o.*
