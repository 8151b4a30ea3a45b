-- The row lock orders this after any concurrent claim. If that claim won, `held` is empty.
-- A checkpoint further than any before resets the count of failures in a row.
WITH held AS (
    SELECT operation_id FROM operations
    WHERE operation_id = %(operation_id)s AND lease_epoch = %(lease_epoch)s AND status = 'running'
    FOR UPDATE
),
previous AS (
    SELECT step FROM operation_checkpoints WHERE operation_id = %(operation_id)s
),
saved AS (
    INSERT INTO operation_checkpoints AS existing (operation_id, lease_epoch, step, state, directory)
    SELECT operation_id, %(lease_epoch)s, %(step)s, %(state)s, %(directory)s FROM held
    ON CONFLICT (operation_id) DO UPDATE
    SET lease_epoch = excluded.lease_epoch, step = excluded.step, state = excluded.state,
        directory = excluded.directory, saved_at = now()
    WHERE (existing.lease_epoch, existing.step) <= (excluded.lease_epoch, excluded.step)
    RETURNING operation_id
),
recovered AS (
    UPDATE operations SET setbacks = 0
    WHERE operation_id IN (SELECT operation_id FROM saved) AND setbacks > 0
      AND %(step)s > coalesce((SELECT step FROM previous), 0)
)
SELECT operation_id FROM saved
