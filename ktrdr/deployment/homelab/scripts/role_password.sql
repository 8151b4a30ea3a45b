-- Give the role the password that the variable verifier is of, unless it has it. PostgreSQL is given what
-- it would make of the password itself, never the password.
SELECT rolpassword IS DISTINCT FROM :'verifier' AS differs
FROM pg_catalog.pg_authid WHERE rolname = CURRENT_USER \gset
\if :differs
ALTER ROLE CURRENT_USER PASSWORD :'verifier';
\echo changed
\endif
