"""PostgreSQL: connections, named queries, migrations; no queries of other rooms."""
