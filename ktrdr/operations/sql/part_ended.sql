-- The row is locked before parts are counted, so of two that end at once the second sees the first.
UPDATE operations AS whole
SET progress = greatest(whole.progress, 0.95 * counted.ended / counted.number),
    progress_message = counted.ended || ' of ' || counted.number || ' parts done'
FROM (
    SELECT count(*) AS number,
           count(*) FILTER (WHERE status IN ('completed', 'failed', 'cancelled')) AS ended
    FROM operations WHERE parent_id = %(parent_id)s
) AS counted
WHERE whole.operation_id = %(parent_id)s AND whole.status IN ('pending', 'running')
  AND whole.lease_until IS NULL AND counted.number > 0
RETURNING whole.*, counted.ended = counted.number AS is_ready
