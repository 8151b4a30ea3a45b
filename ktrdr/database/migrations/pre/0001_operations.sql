-- The truth about every operation. The queue only wakes workers; who may write is told by lease_epoch.
CREATE TABLE operations (
    operation_id        text PRIMARY KEY,
    operation_type      text NOT NULL,
    worker_type         text NOT NULL,
    status              text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'running', 'completed', 'failed', 'cancelled')),
    parameters          jsonb NOT NULL,
    idempotency_key     text UNIQUE,
    submitted_by        text NOT NULL,
    traceparent         text,

    lease_epoch         bigint NOT NULL DEFAULT 0,
    lease_until         timestamptz,
    worker_id           text,
    attempt             integer NOT NULL DEFAULT 0,
    lost_leases         integer NOT NULL DEFAULT 0,

    progress            double precision NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 1),
    progress_message    text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    queued_at           timestamptz NOT NULL DEFAULT now(),
    started_at          timestamptz,
    finished_at         timestamptz,
    cancel_requested_at timestamptz,
    error               jsonb,
    -- Kept as it was written, so that figures are shown in the order their handler gave them.
    result              json,

    CHECK ((status IN ('completed', 'failed', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK ((status = 'completed') = (result IS NOT NULL)),
    CHECK (status <> 'failed' OR error IS NOT NULL),
    CHECK (status = 'running' OR lease_until IS NULL)
);

-- Listings go newest first, whole or by status or type.
CREATE INDEX operations_newest ON operations (created_at DESC, operation_id DESC);
CREATE INDEX operations_by_status ON operations (status, created_at DESC, operation_id DESC);
-- What the reaper looks at stays small however many operations are finished.
CREATE INDEX operations_unfinished ON operations (lease_until, queued_at)
    WHERE status IN ('pending', 'running');

CREATE TABLE operation_checkpoints (
    operation_id text PRIMARY KEY REFERENCES operations ON DELETE CASCADE,
    lease_epoch  bigint NOT NULL,
    step         integer NOT NULL,
    state        jsonb NOT NULL,
    directory    text,
    saved_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE operation_events (
    event_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    operation_id text NOT NULL REFERENCES operations ON DELETE CASCADE,
    at           timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind         text NOT NULL,
    status       text NOT NULL,
    progress     double precision NOT NULL,
    message      text
);
CREATE INDEX operation_events_of ON operation_events (operation_id, event_id);

-- Whoever watches an operation is woken when it changes, instead of asking again and again.
CREATE FUNCTION operation_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('ktrdr_operations', NEW.operation_id);
    RETURN NULL;
END
$$;
CREATE TRIGGER operation_changed AFTER INSERT OR UPDATE OF status, progress, cancel_requested_at
    ON operations FOR EACH ROW EXECUTE FUNCTION operation_changed();
CREATE TRIGGER operation_event_added AFTER INSERT
    ON operation_events FOR EACH ROW EXECUTE FUNCTION operation_changed();
