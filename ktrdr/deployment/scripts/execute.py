"""Runs a command in the container of a service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ktrdr.deployment.scripts.docker import of_project
from ktrdr.deployment.scripts.script import words

# The first line of output; after it, all that comes is the command's.
RUNS: Final = "== runs"
# Followed by the names of the services that run.
NOT_RUNNING: Final = "== not running"
_SERVICE: Final = '{{.Label "com.docker.compose.service"}}'


def execute(project: str, service: str, command: Sequence[str]) -> str:
    """Prints `RUNS` and runs the command, or prints `NOT_RUNNING` and the services that run."""
    running = words("docker", "ps", "--format", _SERVICE, *of_project(project))
    return f"""container=$({find(project, service)})
if [ -z "$container" ]; then
echo '{NOT_RUNNING}'
{running} | sort
else
echo '{RUNS}'
docker exec "$container" {words(*command)}
fi"""


def attach(project: str, service: str, command: Sequence[str]) -> str:
    """The command line that does the same with a terminal, for ssh to run."""
    return f'exec docker exec -it "$({find(project, service)})" {words(*command)}'


def find(project: str, service: str) -> str:
    """Prints the id of the service's container, if it runs."""
    label = f"label=com.docker.compose.service={service}"
    return (
        words("docker", "ps", "--quiet", *of_project(project), "--filter", label) + " | head -n 1"
    )
