"""Brings a release's files to a host: first beside the old ones, then in their place."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Iterable, Mapping
from typing import Final

from ktrdr.deployment.commands.script import quote, words

_STAGING: Final = ".ktrdr-staging"


def staging(workdir: str) -> str:
    """The directory beside the files in place, on the same file system as they."""
    return f"{workdir}/{_STAGING}"


def archive(files: Mapping[str, bytes]) -> bytes:
    """The files as a compressed tar; the same bytes for the same files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path in sorted(files):
            member = tarfile.TarInfo(path)
            member.size = len(files[path])
            # Prometheus and Grafana read them as users of their own.
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(files[path]))
    return gzip.compress(buffer.getvalue(), mtime=0)


def stage(workdir: str) -> str:
    """Unpacks the script's payload beside the files in place.

    Unless `report_and_keep` finds a difference, the directory goes when the script ends.
    """
    place = staging(workdir)
    return "\n".join(
        [
            "umask 022",
            # Without a trap of its own for it, dash leaves out the one for EXIT at a signal.
            "trap 'exit 143' TERM",
            f"trap {quote(discard(workdir))} EXIT",
            f"[ ! -e {quote(place)} ] || {discard(workdir)}",
            words("mkdir", "-p", place),
            f"payload | {words('tar', '-xzf', '-', '-C', place)}",
        ]
    )


def discard(workdir: str) -> str:
    """Removes what is staged."""
    return words("rm", "-rf", staging(workdir))


def report_and_keep(workdir: str, files: Iterable[str], below: str = "") -> str:
    """Prints the files that are to change, and keeps what is staged if there are any.

    They come as ``+ FILE`` for new content and ``- FILE`` for removal.

    Args:
        workdir: Where the files in place are.
        files: The files of the release.
        below: The directory in which every other file is a leftover; by default there is none.
    """
    changed = _each_differing(workdir, files, 'echo "+ $file"')
    leftovers = _each_leftover(workdir, files, below, 'echo "- $file"')
    looking = "\n".join(["differing() {", changed, *leftovers, "}", "changes=$(differing)"])
    return f'{looking}\n[ -z "$changes" ] || {{ printf "%s\\n" "$changes"; trap - EXIT; }}'


def place(workdir: str, files: Iterable[str], below: str = "") -> str:
    """Moves what differs into place, file by file, and removes leftovers; if anything is staged.

    Each file changes at once, and directories stay what they are: containers have them mounted,
    and would go on seeing one that was replaced.
    """
    move = (
        f'mkdir -p "$(dirname {quote(workdir)}/"$file")"\n'
        f'mv -f {quote(staging(workdir))}/"$file" {quote(workdir)}/"$file"'
    )
    remove = f'rm -f {quote(workdir)}/"$file"'
    steps = [
        "umask 022",
        _each_differing(workdir, files, move),
        *_each_leftover(workdir, files, below, remove),
        discard(workdir),
    ]
    return "\n".join([f"if [ -d {quote(staging(workdir))} ]; then", *steps, "fi"])


def _each_differing(workdir: str, files: Iterable[str], command: str) -> str:
    compare = f'cmp -s {quote(staging(workdir))}/"$file" {quote(workdir)}/"$file"'
    return f"for file in {words(*sorted(files))}; do\n{compare} || {{\n{command}\n}}\ndone"


def _each_leftover(workdir: str, files: Iterable[str], below: str, command: str) -> list[str]:
    if not below:
        return []
    kept = "|".join(quote(file) for file in sorted(files) if file.startswith(below)) or "''"
    directory = quote(below.rstrip("/"))
    listing = f"(cd {quote(workdir)} && find {directory} -type f)"
    return [
        f"[ ! -d {quote(workdir)}/{directory} ] || {listing} |",
        f'while IFS= read -r file; do\ncase "$file" in\n{kept}) ;;\n*) {command} ;;\nesac\ndone',
    ]
