-- What this release needs of the database, as this role sees it. A table without a name in the search path is missing.
WITH needed AS (
    SELECT name, to_regclass(name) AS id FROM unnest(%(tables)s::text[]) AS name
)
SELECT clock_timestamp() AS now,
       current_setting('transaction_read_only')::boolean AS is_read_only,
       ARRAY(SELECT name FROM needed WHERE id IS NULL) AS missing,
       ARRAY(
           SELECT name FROM needed
           WHERE NOT (
               has_table_privilege(id, 'SELECT') AND has_table_privilege(id, 'INSERT')
               AND has_table_privilege(id, 'UPDATE') AND has_table_privilege(id, 'DELETE')
           )
       ) AS forbidden
