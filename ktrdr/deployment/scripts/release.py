"""Brings a release's files to a host: first beside the old ones, then in their place."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Final

from ktrdr.deployment.scripts.script import quote, words

_STAGING: Final = ".ktrdr-staging"
# Where the release's files are, for what comes behind `stage` in the same script.
STAGED: Final = '"$release"'
# No file has this for a digest.
_END: Final = "-- end of digests --"


def staging(workdir: str) -> str:
    """The directory beside the files in place, on the same file system as they."""
    return f"{workdir}/{_STAGING}"


def archive(files: Mapping[str, bytes]) -> bytes:
    """The files as a compressed tar; the same bytes for the same files."""
    return _packed(tuple(sorted(files.items())))


@lru_cache(maxsize=8)
def _packed(files: tuple[tuple[str, bytes], ...]) -> bytes:
    # Fifty worker nodes are sent the same.
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in files:
            member = tarfile.TarInfo(path)
            member.size = len(content)
            # Prometheus and Grafana read them as users of their own.
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def stage(workdir: str, files: Mapping[str, bytes]) -> str:
    """Unpacks the script's payload beside the files in place, if any of those is another.

    From then on `STAGED` is where the release's files are. What is unpacked goes when the script
    ends, unless `report_and_keep` comes to its end before.

    Args:
        workdir: Where the files in place are.
        files: The files of the release, which are the payload.
    """
    place = quote(staging(workdir))
    digests = [f"{hashlib.sha256(files[path]).hexdigest()}  {path}" for path in sorted(files)]
    check = f"(cd {quote(workdir)} && exec sha256sum -c) >/dev/null 2>&1 <<'{_END}'"
    return "\n".join(
        [
            "umask 022",
            f"[ ! -e {place} ] || {discard(workdir)}",
            f"release={quote(workdir)}",
            f"if ! {check}",
            *digests,
            _END,
            "then",
            f"release={place}",
            # Without a trap of its own for it, dash leaves out the one for EXIT at a signal.
            "trap 'exit 143' TERM",
            f"trap {quote(discard(workdir))} EXIT",
            f"mkdir -p {place}",
            f"payload | tar -xzf - -C {place}",
            "fi",
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
    staged = [f"if [ -d {quote(staging(workdir))} ]; then", changed, "fi"]
    looking = "\n".join(["differing() {", *staged, *leftovers, "}", "changes=$(differing)"])
    return f'{looking}\n[ -z "$changes" ] || {{ printf "%s\\n" "$changes"; trap - EXIT; }}'


def place(workdir: str, files: Iterable[str], below: str = "") -> str:
    """Moves what is staged and differs into place, file by file, and removes leftovers.

    Each file changes at once, and directories stay what they are: containers have them mounted,
    and would go on seeing one that was replaced.
    """
    move = (
        f'mkdir -p "$(dirname {quote(workdir)}/"$file")"\n'
        f'mv -f {quote(staging(workdir))}/"$file" {quote(workdir)}/"$file"'
    )
    remove = f'rm -f {quote(workdir)}/"$file"'
    moving = ["umask 022", _each_differing(workdir, files, move), discard(workdir)]
    staged = [f"if [ -d {quote(staging(workdir))} ]; then", *moving, "fi"]
    return "\n".join([*staged, *_each_leftover(workdir, files, below, remove)])


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
