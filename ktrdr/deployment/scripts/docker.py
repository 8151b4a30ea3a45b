"""Command lines of Docker: they look at containers, images, logs, and at what a service says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from ktrdr.deployment.scripts.script import quote, words

# One JSON object a container. Not its configuration as a whole: that holds the environment.
_CONTAINER: Final = (
    '{"id":{{json .Id}},"image":{{json .Image}},"name":{{json .Config.Image}},'
    '"labels":{{json .Config.Labels}},"state":{{json .State}},"restarts":{{json .RestartCount}},'
    '"created":{{json .Created}}}'
)
_SERVICE: Final = '{{.ID}} {{.Label "com.docker.compose.service"}}'
_IMAGE: Final = '{"id":{{json .Id}},"tags":{{json .RepoTags}},"digests":{{json .RepoDigests}}}'

# Asks the server in its own container, which is reached there whatever the host publishes, and
# needs no program of the host. HTTP/1.0, so that the answer ends with the connection.
_ASK: Final = """import os, socket
worker = os.environ.get("WORKER_PORT")
path = "/health" if worker else "/api/v1/health"
with socket.create_connection(("127.0.0.1", int(worker or 8000)), 5) as server:
    server.sendall(f"GET {path} HTTP/1.0\\r\\n\\r\\n".encode())
    answer = server.makefile("rb").read().decode("utf-8", "replace")
print(" ".join(answer.partition("\\r\\n\\r\\n")[2].split()))"""


def containers(project: str) -> str:
    """Prints one JSON object for each container of a project, also for those that are stopped."""
    listing = words("docker", "ps", "--all", "--quiet", "--no-trunc", *of_project(project))
    # A container may vanish between the two commands: the others are shown all the same.
    inspect = f"{words('docker', 'inspect', '--format', _CONTAINER)} $containers 2>/dev/null"
    return f"""containers=$({listing})
found=
[ -z "$containers" ] || found=$({inspect}) || :
[ -z "$found" ] || printf '%s\\n' "$found\""""


def where_there(services: Iterable[str], command: str) -> str:
    """Runs a command only where `containers`, before it, has shown a container of a service.

    To start Docker's program for nothing takes as long as the shell needs for all the rest.
    """
    labels = (f'"com.docker.compose.service":"{service}"' for service in services)
    patterns = "|".join(f"*{quote(label)}*" for label in labels)
    return f'case "$found" in\n{patterns})\n{command}\n;;\nesac'


def pin(project: str, reference: str, digest: str) -> str:
    """Makes a tag mean the image of this digest on the host, wherever the tag has moved since.

    It is pulled by Compose, since not every Docker CLI logs in with ``DOCKER_AUTH_CONFIG``.
    """
    pinned = f"{reference.rpartition(':')[0]}@{digest}"
    file = f"services: {{pinned: {{image: {json.dumps(pinned)}}}}}"
    pull = words("docker", "compose", "-p", f"{project}-pin", "-f", "-", "pull", "--quiet")
    return (
        f"{words('docker', 'image', 'inspect', pinned)} >/dev/null 2>&1 || "
        f"printf '%s\\n' {quote(file)} | {pull}\n"
        f"{words('docker', 'tag', pinned, reference)}"
    )


def images(references: Iterable[str]) -> str:
    """Prints one JSON object for each of these images that the host has."""
    return f"{_inspect(references)} || :"


def unless_images_are_there(references: Iterable[str], command: str) -> str:
    """Runs a command only where an image is missing, and notes for `images_noted` what is there."""
    return f"images=$({_inspect(references)}) || {{\nimages=\n{command}\n}}"


def images_noted(references: Iterable[str]) -> str:
    """Prints what `images` does, and asks Docker only where nothing was noted."""
    return (
        f'if [ -n "${{images-}}" ]; then\nprintf "%s\\n" "$images"\nelse\n{images(references)}\nfi'
    )


def _inspect(references: Iterable[str]) -> str:
    return f"{words('docker', 'image', 'inspect', '--format', _IMAGE, *references)} 2>/dev/null"


def images_in_use(project: str) -> str:
    """Prints one JSON object for each image that a container of the project was made from."""
    listing = words("docker", "ps", "--all", "--quiet", *of_project(project))
    made_from = words("docker", "inspect", "--format", "{{.Image}}")
    inspect = words("docker", "image", "inspect", "--format", _IMAGE)
    return (
        f"containers=$({listing})\n"
        f'[ -z "$containers" ] || {{ {made_from} $containers 2>/dev/null || :; }} | sort -u |\n'
        f"xargs -r {inspect} 2>/dev/null || :"
    )


def answers(project: str, services: Iterable[str]) -> str:
    """Prints ``SERVICE ANSWER`` for each of our own services that is healthy.

    The answer is that to ``/api/v1/health`` of the backend or ``/health`` of a worker, on one line;
    it is missing where the service gives none. They are asked side by side: each takes as long as a
    program does to start in a container. A line is written at once, so none cuts into another.
    """
    healthy = words(
        *("docker", "ps", "--format", _SERVICE, "--filter", "health=healthy", *of_project(project))
    )
    ask = words("python3", "-I", "-S", "-c", _ASK)
    return (
        f"{healthy} | {{ while read -r container service; do\n"
        f'case "$service" in\n{"|".join(map(quote, services))})\n'
        f'echo "$service $(docker exec "$container" {ask} 2>/dev/null </dev/null || :)" &\n'
        ";;\nesac\ndone\nwait\n}"
    )


def each(verb: str, containers: Iterable[str]) -> str:
    """Lets Docker do something with containers, all at the same time.

    Args:
        verb: ``restart`` or ``stop``; each container has the grace period that it was made with.
        containers: Their ids.
    """
    return f"""code=0
pids=
for container in {words(*containers)}; do
docker {verb} "$container" >/dev/null &
pids="$pids $!"
done
for pid in $pids; do
wait "$pid" || code=$?
done
if [ "$code" != 0 ]; then exit "$code"; fi"""


def logs(containers: Iterable[str], *, lines: int) -> str:
    """Prints the last lines that containers wrote, each container in a section of its id."""
    return "\n".join(
        f"echo '== {container}'\n"
        f"{words('docker', 'logs', '--tail', str(lines), container)} 2>&1 || :"
        for container in containers
    )


def of_project(project: str) -> tuple[str, ...]:
    """The filters of ``docker ps`` that let a project's own containers through."""
    labels = (f"com.docker.compose.project={project}", "com.docker.compose.oneoff=False")
    return tuple(word for label in labels for word in ("--filter", f"label={label}"))
