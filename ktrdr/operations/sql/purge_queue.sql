-- A queue entry is of no use once it is finished, or once its worker is gone.
DELETE FROM procrastinate_jobs AS j
WHERE j.status IN ('succeeded', 'failed', 'cancelled', 'aborted')
   OR (j.status = 'doing' AND NOT EXISTS (SELECT FROM procrastinate_workers AS w WHERE w.id = j.worker_id))
