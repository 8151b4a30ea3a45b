-- The parent is locked before the children are counted, so of two that end simultaneously the second sees the first.
UPDATE operations AS parent
SET progress = greatest(parent.progress, 0.95 * counted.ended / counted.number),
    progress_message = counted.ended || ' of ' || counted.number || ' child operations ended'
FROM (
    SELECT count(*) AS number,
           count(*) FILTER (WHERE status IN ('completed', 'failed', 'cancelled')) AS ended
    FROM operations WHERE parent_id = %(parent_id)s
) AS counted
WHERE parent.operation_id = %(parent_id)s AND parent.status IN ('pending', 'running')
  AND parent.lease_until IS NULL AND counted.number > 0
RETURNING parent.*, counted.ended = counted.number AS is_ready
