-- Set the password of the role from the variable verifier, unless it is set already. The verifier is what
-- PostgreSQL stores of a password. PostgreSQL never receives the password itself.
SELECT rolpassword IS DISTINCT FROM :'verifier' AS differs
FROM pg_catalog.pg_authid WHERE rolname = CURRENT_USER \gset
\if :differs
ALTER ROLE CURRENT_USER PASSWORD :'verifier';
\echo changed
\endif
