"""Asks a host how it differs from a release, without changing anything on it.

The release's files are put on the host's tmpfs for as long as the script runs, since Compose wants
files; no disk sees them. They hold no secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from ktrdr.deployment.scripts.script import quote, words

TMPFS: Final = "/dev/shm"  # noqa: S108  # a directory of one's own is made in it, or nothing
# What `files` says of a file: it is new, it has other content, or it is no part of the release.
NEW, OTHER, LEFT_OVER = "+", "~", "-"


class Handed(NamedTuple):
    """A secret as a container has it.

    Attributes:
        variable: What Compose calls it.
        name: The container's environment variable that holds it, and nothing else.
    """

    variable: str
    name: str


def staging(mark: str) -> str:
    """Where the files are put: a directory whose name nobody else has.

    Args:
        mark: What makes the name unique; letters and digits.
    """
    return f"{TMPFS}/ktrdr-diff-{mark}"


def stage(place: str) -> str:
    """Unpacks the script's payload on the tmpfs; it goes when the script ends."""
    return "\n".join(
        [
            "umask 077",
            # Without a trap of its own for it, dash leaves out the one for EXIT at a signal.
            "trap 'exit 143' TERM",
            # Fails where somebody else made it before.
            words("mkdir", place),
            f"trap {quote(words('rm', '-rf', place))} EXIT",
            f"payload | {words('tar', '-xzf', '-', '-C', place)}",
        ]
    )


def files(place: str, workdir: str, paths: Iterable[str], below: str = "") -> str:
    """Prints the files that differ, each with what is there now.

    It is ``+ FILE`` for what is not there yet, ``~ FILE BASE64`` for what is to be replaced, and
    ``- FILE BASE64`` for what is to be removed.

    Args:
        place: Where the release's files are.
        workdir: Where the files in place are.
        paths: The files of the release.
        below: The directory in which every other file is a leftover; by default there is none.
    """
    listed = sorted(paths)
    there = f'{quote(workdir)}/"$file"'
    script = f"""says() {{ printf '%s %s ' "$1" "$file"; base64 {there} | tr -d '\\n'; echo; }}
for file in {words(*listed)}; do
if [ ! -e {there} ]; then
echo "{NEW} $file"
elif ! cmp -s {quote(place)}/"$file" {there}; then
says '{OTHER}'
fi
done"""
    if not below:
        return script
    kept = "|".join(quote(path) for path in listed if path.startswith(below)) or "''"
    directory = quote(below.rstrip("/"))
    return f"""{script}
[ ! -d {quote(workdir)}/{directory} ] || (cd {quote(workdir)} && find {directory} -type f) |
while IFS= read -r file; do
case "$file" in
{kept}) ;;
*) says '{LEFT_OVER}' ;;
esac
done"""


def with_secrets_of(project: str, handed: Iterable[Handed], command: str) -> str:
    """Runs a command with the secrets that the running containers have.

    They go from Docker into the environment of a subshell, and stand in no argument list, no file
    and no output; what complains of them is not heard. Of several containers that have one, the
    last counts.

    Args:
        project: The Compose project of the containers.
        handed: The secrets, and where containers have them.
        command: What needs them.
    """
    template = "".join(map(_export, handed))
    label = f"label=com.docker.compose.project={project}"
    ids = words("docker", "ps", "--all", "--quiet", "--filter", label)
    inspect = words(
        "docker", "inspect", "--format", f"{{{{range .Config.Env}}}}{template}{{{{end}}}}"
    )
    return f"""(
containers=$({ids})
[ -z "$containers" ] || eval "$({inspect} $containers)"
{command}
) 2>/dev/null"""


def _export(handed: Handed) -> str:
    """Docker's template for a line of shell that exports a secret, its quotes made harmless."""
    is_it = f'{{{{if eq (index (split . "=") 0) "{handed.name}"}}}}'
    value = f"(slice . {len(handed.name) + 1})"
    quoted = f"""'{{{{join (split {value} "'") "'\\\\''"}}}}'"""
    return f"{is_it}export {handed.variable}={quoted}\n{{{{end}}}}"
