-- Operations that are divided into parts, that wait before they are tried again, and workers that make way.
-- lost_leases is replaced by setbacks; it stays for workers of the release before, until post/0003.
ALTER TABLE operations
    ADD COLUMN parent_id    text REFERENCES operations ON DELETE CASCADE,
    ADD COLUMN part_number  integer,
    ADD COLUMN setbacks     integer NOT NULL DEFAULT 0,
    ADD COLUMN not_before   timestamptz,
    ADD COLUMN retry_reason text;
UPDATE operations SET setbacks = lost_leases WHERE status IN ('pending', 'running') AND lost_leases > 0;
CREATE INDEX operations_parts ON operations (parent_id, part_number) WHERE parent_id IS NOT NULL;

-- A worker or a node that takes nothing new; kept apart from workers, which come and go.
CREATE TABLE drains (
    target       text PRIMARY KEY,
    mode         text NOT NULL CHECK (mode IN ('finish', 'hand_over')),
    requested_by text NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT now()
);

-- How far a worker's clock is ahead of the backend's, in seconds.
ALTER TABLE workers ADD COLUMN clock_skew_s double precision;

-- Tokens that are not to be believed any more, until they would have expired by themselves.
CREATE TABLE revoked_tokens (
    token_id   text PRIMARY KEY,
    expires_at timestamptz NOT NULL,
    revoked_by text NOT NULL,
    revoked_at timestamptz NOT NULL DEFAULT now()
);

-- Who changed what, and when; rows are only ever added.
CREATE TABLE audit (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor    text NOT NULL,
    role     text NOT NULL,
    token_id text NOT NULL,
    action   text NOT NULL,
    subject  text NOT NULL,
    detail   jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_of_subject ON audit (subject, audit_id DESC);
