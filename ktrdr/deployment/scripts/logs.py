"""Prints what a project's containers wrote, each line with its time and where it comes from.

A line of the output is ``SERVICE/CONTAINER TIME TEXT``. ``#SERVICE`` names a service that is there,
whether or not it was asked for; `LIVE` says that all older lines have been printed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ktrdr.deployment.scripts.docker import of_project
from ktrdr.deployment.scripts.script import quote, words

NAMED: Final = "#"
LIVE: Final = "## live"
# A follower ends by itself, and is begun anew where it stopped: what it printed is kept in memory.
FOLLOW_S: Final = 3600
# Several containers write into one pipe: what is longer than its 4,096 bytes would be mixed up.
_PIECE: Final = 3500
_SERVICE: Final = '{{.Label "com.docker.compose.service"}}'
_EVENT: Final = '{{.ID}} {{.Time}} {{index .Actor.Attributes "com.docker.compose.service"}}'


def read(project: str, services: Sequence[str], *, since: str = "", lines: int | None) -> str:
    """Prints what containers have written until now, one after the other.

    Args:
        project: The Compose project.
        services: The services asked for; none means all.
        since: From when, as ``docker logs --since`` takes it; by default from the beginning.
        lines: The last so many of each container; None for all.
    """
    listing = words(
        *("docker", "ps", "--all", "--format", f"{{{{.ID}}}} {_SERVICE}"), *of_project(project)
    )
    options = [*(["--since", since] if since else []), "--tail", str(lines or "all")]
    show = words("docker", "logs", "--timestamps", *options)
    return f"""wanted() {{ {_wanted(services)} }}
containers=$({listing})
printf '%s\\n' "$containers" | while read -r id service; do
[ -n "$id" ] || continue
echo "{NAMED}$service"
! wanted "$service" || {show} "$id" 2>&1 | sed "s|^|$service/$id |" || :
done"""


def follow(project: str, services: Sequence[str], *, since: str = "", lines: int | None) -> str:
    """Prints the same, `LIVE`, and then all that is written for `FOLLOW_S` seconds.

    Containers that start meanwhile are followed, too. Some lines may come twice.
    """
    # In the script's own process group, so that all of it ends with its connection.
    for_long = words("timeout", "--foreground", str(FOLLOW_S))
    show = words("docker", "logs", "--timestamps", "--follow")
    watch = words(
        *("docker", "events", "--filter", "type=container", "--filter", "event=start"),
        *("--format", _EVENT, *of_project(project)),
    )
    return f"""began=$(date +%s)
{read(project, services, since=since, lines=lines)}
echo '{LIVE}'
if command -v stdbuf >/dev/null; then
tagged() {{ LC_ALL=C stdbuf -oL fold -b -w {_PIECE} | LC_ALL=C stdbuf -oL sed "s|^|$1 |"; }}
else
tagged() {{ LC_ALL=C sed -u "s|^|$1 |"; }}
fi
follow() {{
! wanted "$3" || {for_long} {show} --since "$2" "$1" 2>&1 | tagged "$3/$(echo "$1" | cut -c 1-12)"
}}
printf '%s\n' "$containers" | {{
while read -r id service; do
[ -z "$id" ] || follow "$id" "$began" "$service" &
done
wait
}} &
{for_long} {watch} --since "$began" | {{
while read -r id at service; do
follow "$id" "$at" "$service" &
done
wait
}} &
wait"""


def _wanted(services: Sequence[str]) -> str:
    if not services:
        return ":;"
    return f'case "$1" in {"|".join(quote(name) for name in services)}) ;; *) return 1 ;; esac;'
