-- The row lock orders this after any claim that is under way; a claim that won leaves no row here.
-- Whoever gets further than ever before has put earlier setbacks behind.
WITH held AS (
    SELECT operation_id FROM operations
    WHERE operation_id = %(operation_id)s AND lease_epoch = %(lease_epoch)s AND status = 'running'
    FOR UPDATE
),
earlier AS (
    SELECT step FROM operation_checkpoints WHERE operation_id = %(operation_id)s
),
saved AS (
    INSERT INTO operation_checkpoints AS kept (operation_id, lease_epoch, step, state, directory)
    SELECT operation_id, %(lease_epoch)s, %(step)s, %(state)s, %(directory)s FROM held
    ON CONFLICT (operation_id) DO UPDATE
    SET lease_epoch = excluded.lease_epoch, step = excluded.step, state = excluded.state,
        directory = excluded.directory, saved_at = now()
    WHERE (kept.lease_epoch, kept.step) <= (excluded.lease_epoch, excluded.step)
    RETURNING operation_id
),
recovered AS (
    UPDATE operations SET setbacks = 0
    WHERE operation_id IN (SELECT operation_id FROM saved) AND setbacks > 0
      AND %(step)s > coalesce((SELECT step FROM earlier), 0)
)
SELECT operation_id FROM saved
