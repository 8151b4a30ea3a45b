"""What puts a host right whose containers an interrupted deploy or Docker has left half-way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ktrdr.deployment.scripts import lock
from ktrdr.deployment.scripts.docker import of_project
from ktrdr.deployment.scripts.script import quote, words

_IDLE: Final = (
    '{{.Id}} {{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} '
    "{{json .State.Error}}"
)

# Twelve characters of an id and an underscore stand before the name.
_HALF_DONE: Final = "[0-9a-f]" * 12 + "_*"

_NOT_RUNNING: Final = ("--filter", "status=exited", "--filter", "status=created")
# So many looks a second apart without anything to start.
_CALM_LOOKS: Final = 3


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
    # One that cannot be started does not keep Compose from the others.
    started = '\ndocker start "$final" || :' if start else ""
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


def remove_unstartable(project: str, services: Iterable[str]) -> str:
    """Removes containers that never ran or could not be started last, for Compose to make anew.

    Where Docker is stopped in the moment in which it starts a container, something stays behind
    under the container's id that fails every further start ("task … already exists").
    """
    idle = words("docker", "ps", "--all", "--quiet", *of_project(project), *_NOT_RUNNING)
    inspect = words("docker", "inspect", "--format", _IDLE)
    return f"""idle=$({idle})
[ -z "$idle" ] || {inspect} $idle | while read -r container service state error; do
case "$service" in
{"|".join(map(quote, services))})
[ "$state $error" = 'exited ""' ] || docker rm --force "$container" >/dev/null
;;
esac
done"""


def until_docker_answers(seconds: int) -> str:
    """Waits for a Docker that is away, as while its package is upgraded; fails when it stays so."""
    return f"""end=$(($(date +%s) + {seconds}))
until docker version >/dev/null 2>&1; do
[ "$(date +%s)" -lt "$end" ] || exit 1
sleep 1
done"""


def _resting(workdir: str) -> str:
    """The file with the containers that were stopped before anything was changed."""
    return f"{workdir}/{lock.RECORDS}/stopped"


def defined(workdir: str, project: str) -> str:
    """Defines ``recover SECONDS``: whatever of a project was stopped half-way runs again.

    What was stopped before that, as `when_ended` has noted it under the present lock, stays
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


def when_ended(workdir: str, project: str, note: str, *, secrets: Sequence[str] = ()) -> str:
    """Makes sure that the services run again when a script is ended in mid-work, however it is.

    Nobody may be left to do so: the operator's machine may be gone, and a script that is killed
    cannot either. So a process stands by in a session of its own, which outlives the connection. A
    script that comes to its end by itself sends it away. Else it takes the host's lock when that
    becomes free, puts right what it finds, and ends. What was stopped on purpose before is noted,
    so that it stays so; once for all that is done under one lock, since what the first script has
    stopped was not.

    Args:
        workdir: The work directory.
        project: The Compose project.
        note: What the lock says meanwhile.
        secrets: The names of the variables that the process is not given, since it may outlive all
            that needs them.
    """
    file, resting = quote(lock.path(workdir)), quote(_resting(workdir))
    # One that was made and never started is left of something else that was cut off.
    ended = ("--filter", "status=exited")
    note_resting = words("docker", "ps", "--all", "--quiet", *of_project(project), *ended)
    # With its output it closes the substitution that waits for its id: it is out of reach by then
    # of what ends the connection's session.
    body = f"""echo "$$"
exec >/dev/null 9>>{file}
flock 9 || exit
{defined(workdir, project)}
printf '%s %s\\n' "$$" {quote(note)} >{file}
recover {lock.RECOVERY_S}"""
    hidden = words("unset", *secrets) if secrets else ":"
    quiet = "</dev/null 2>/dev/null 3<&- 4>&-"
    return f"""[ {resting} -nt {file} ] || {note_resting} >{resting} || :
standby=$({hidden}; setsid sh -c {quote(body)} {quiet} &)
trap 'kill -s KILL -- "-$standby" 2>/dev/null || :' EXIT
trap 'trap - EXIT; exit 143' TERM INT HUP"""
