-- The queue's rows have told what they had to once they are finished, or once their worker is gone.
DELETE FROM procrastinate_jobs AS j
WHERE j.status IN ('succeeded', 'failed', 'cancelled', 'aborted')
   OR (j.status = 'doing' AND NOT EXISTS (SELECT FROM procrastinate_workers AS w WHERE w.id = j.worker_id))
