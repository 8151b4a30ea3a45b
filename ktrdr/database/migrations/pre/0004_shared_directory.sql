-- The id in the mark of the shared directory.
CREATE TABLE shared_directory (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    directory_id uuid NOT NULL
);

-- Why a worker that answers its health checks is not ready.
ALTER TABLE workers ADD COLUMN problem text;
