-- Nothing of this release reads it; workers of the release before did.
ALTER TABLE operations DROP COLUMN lost_leases;
