"""PostgreSQL: connections, named queries and migrations."""
