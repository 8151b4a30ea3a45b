"""Command lines of Docker that look: at containers, images, logs, and at what a service says."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from ktrdr.deployment.commands import lock
from ktrdr.deployment.commands.script import quote, words

# One JSON object a container. Not its configuration as a whole: that holds the environment.
_CONTAINER: Final = (
    '{"id":{{json .Id}},"image":{{json .Image}},"name":{{json .Config.Image}},'
    '"labels":{{json .Config.Labels}},"state":{{json .State}},"restarts":{{json .RestartCount}},'
    '"created":{{json .Created}}}'
)
_SERVICE: Final = '{{.ID}} {{.Label "com.docker.compose.service"}}'
_IMAGE: Final = '{"id":{{json .Id}},"tags":{{json .RepoTags}},"digests":{{json .RepoDigests}}}'

# Twelve characters of an id and an underscore stand before the name.
_HALF_DONE: Final = "[0-9a-f]" * 12 + "_*"

_NOT_RUNNING: Final = ("--filter", "status=exited", "--filter", "status=created")
# So many looks a second apart without anything to start.
_CALM_LOOKS: Final = 3

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


def finish_recreation(project: str, *, start: bool = True) -> str:
    """Ends what an interrupted Compose has left half done.

    To recreate a container, Compose makes the new one under the name ``OLDID_NAME``, stops and
    removes the old one, and renames the new one. Interrupted in between, it leaves a service
    stopped, and stumbles over its own leftover the next time. So where both are there, the new one
    goes and the old one is started; where the old one is gone, the new one takes its place.

    Args:
        project: The Compose project.
        start: Whether what is left of the two is started, too.
    """
    started = '\ndocker start "$final"' if start else ""
    names = words("docker", "ps", "--all", "--format", "{{.Names}}", *of_project(project))
    return f"""for name in $({names}); do
case "$name" in
{_HALF_DONE})
final=${{name#*_}}
if docker inspect "$final" >/dev/null 2>&1; then
docker rm --force "$name"
else
docker rename "$name" "$final"
fi{started}
;;
esac
done"""


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


def _resting(workdir: str) -> str:
    """The file with the containers that were stopped before anything was changed."""
    return f"{workdir}/{lock.RECORDS}/stopped"


def recovery(workdir: str, project: str) -> str:
    """Defines ``recover SECONDS``: whatever of a project was stopped half-way runs again.

    What was stopped before that, as `recover_when_ended` has noted it under the present lock, stays
    so. It goes on until all others have run for some moments on end, since one that was told to
    stop may do so only at the end of its grace, and until Docker answers, if it is away. Fails when
    the time is up before.
    """
    noted, file = quote(_resting(workdir)), quote(lock.path(workdir))
    stopped = words("docker", "ps", "--all", "--quiet", *of_project(project), *_NOT_RUNNING)
    return f"""resting=
[ ! {noted} -nt {file} ] || resting=$(cat {noted}) || :
finish() {{
{finish_recreation(project, start=False)}
}}
recover() {{
end=$(($(date +%s) + $1))
calm=0
while [ "$(date +%s)" -lt "$end" ]; do
if ( set -e; finish ) >/dev/null 2>&1 && stopped=$({stopped} 2>/dev/null); then
idle=
for one in $stopped; do
printf '%s\\n' "$resting" | grep -qxF "$one" || idle="$idle $one"
done
if [ -z "$idle" ]; then
calm=$((calm + 1))
[ "$calm" -lt {_CALM_LOOKS} ] || return 0
else
calm=0
docker start $idle >/dev/null 2>&1 || :
fi
fi
sleep 1
done
return 1
}}"""


def recover_when_ended(workdir: str, project: str, note: str) -> str:
    """Makes a script that is ended in mid-work see to it that the services run again.

    Nobody may be left to do so: the operator's machine may be gone. So a process of its own does
    it, which outlives the connection, takes the host's lock when it becomes free, and ends by
    itself. What was stopped on purpose before is noted, so that it stays so; once for all that is
    done under one lock, since what the first script has stopped was not.

    Args:
        workdir: The work directory.
        project: The Compose project.
        note: What the lock says meanwhile.
    """
    file, resting = quote(lock.path(workdir)), quote(_resting(workdir))
    # One that was made and never started is left of something else that was cut off.
    ended = ("--filter", "status=exited")
    note_resting = words("docker", "ps", "--all", "--quiet", *of_project(project), *ended)
    body = f"""exec 9>>{file}
flock 9
{recovery(workdir, project)}
printf '%s %s\\n' "$$" {quote(note)} >{file}
recover {lock.RECOVERY_S}"""
    quiet = "</dev/null >/dev/null 2>&1 3<&- 4>&-"
    return (
        f"[ {resting} -nt {file} ] || {note_resting} >{resting} || :\n"
        f"afterwards() {{\nsetsid sh -c {quote(body)} {quiet} &\n}}\n"
        "trap 'afterwards; exit 143' TERM INT HUP"
    )


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
