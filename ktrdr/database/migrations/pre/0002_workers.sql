-- The registered workers: kept here so that a restarted backend still knows them.
CREATE TABLE workers (
    worker_id             text PRIMARY KEY,
    worker_type           text NOT NULL,
    endpoint_url          text NOT NULL,
    node                  text NOT NULL,
    capabilities          jsonb NOT NULL DEFAULT '{}',
    version               text NOT NULL,
    current_operation_id  text,
    registered_at         timestamptz NOT NULL DEFAULT now(),
    last_healthy_at       timestamptz,
    health_check_failures integer NOT NULL DEFAULT 0,
    unavailable           boolean NOT NULL DEFAULT false
);
