"""Archives of a release's files."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Mapping
from functools import lru_cache


def pack_files(files: Mapping[str, bytes]) -> bytes:
    """Return the files as a compressed tar: the same bytes for the same files."""
    return _pack(tuple(sorted(files.items())))


@lru_cache(maxsize=8)
def _pack(files: tuple[tuple[str, bytes], ...]) -> bytes:
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
