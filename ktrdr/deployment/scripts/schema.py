"""Asks the database of a core host which migrations it has seen."""

from __future__ import annotations

from ktrdr.deployment.scripts.script import words

# Through the socket in its own container, where the server trusts its own user: without a secret.
_ASK = (
    """psql -AtqX -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c 'SELECT name FROM schema_migrations'"""
)


def applied(project: str) -> str:
    """Prints the names of the applied migrations; fails where the database does not run."""
    find = words(
        *("docker", "ps", "--quiet"),
        *("--filter", f"label=com.docker.compose.project={project}"),
        *("--filter", "label=com.docker.compose.service=db"),
    )
    ask = words("sh", "-c", _ASK)
    return f"""database=$({find})
if [ -z "$database" ]; then
echo 'the database does not run' >&2
exit 1
fi
docker exec "$database" {ask}"""
