"""What a host remembers of its deploys: one line each event, and the configuration that ran.

Nothing here is secret. The lines are only ever appended to; the configurations are kept by the hash
of what is in them, so that the same one is kept once.
"""

from __future__ import annotations

from collections.abc import Iterable

from ktrdr.deployment.scripts.lock import RECORDS
from ktrdr.deployment.scripts.script import made, quote, words


def path(workdir: str) -> str:
    """The file of events."""
    return f"{workdir}/{RECORDS}/history.jsonl"


def kept(workdir: str, configuration: str) -> str:
    """The archive in which a configuration is kept, by its hash."""
    return f"{workdir}/{RECORDS}/releases/{configuration}.tar.gz"


def append(workdir: str, *lines: str) -> str:
    """Adds events, after a line that an interruption may have cut short."""
    file = quote(path(workdir))
    # Only what ends with a line's end was written whole; what was not stays apart from the new one.
    return f"""umask 022
{made(f"{workdir}/{RECORDS}")}
[ ! -s {file} ] || [ -z "$(tail -c 1 {file})" ] || echo >>{file}
printf '%s\\n' {words(*lines)} >>{file}"""


def read(workdir: str, *, last: int = 0) -> str:
    """Prints the events, oldest first.

    Args:
        workdir: The work directory.
        last: Only so many; by default all.
    """
    file = quote(path(workdir))
    command = f"tail -n {last}" if last else "cat"
    return f"[ ! -e {file} ] || {command} {file}"


def keep(workdir: str, files: Iterable[str], configuration: str) -> str:
    """Keeps the files that are in place, unless this very configuration is kept already."""
    archive = quote(kept(workdir, configuration))
    partial = quote(f"{kept(workdir, configuration)}.partial")
    return f"""if [ ! -e {archive} ]; then
mkdir -p {quote(f"{workdir}/{RECORDS}/releases")}
tar -czf {partial} -C {words(workdir, *sorted(files))}
mv -f {partial} {archive}
fi"""


def fetch(workdir: str, configuration: str) -> str:
    """Prints a kept configuration as base64; nothing where it is not kept."""
    archive = quote(kept(workdir, configuration))
    return f"[ ! -e {archive} ] || base64 {archive}"
