"""Releases: the tag of an image, and the configuration that belongs to it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from ktrdr.deployment.releases.compose_file import ComposeFile, parse_compose_file, parse_env_file
from ktrdr.errors import ConfigurationError

Target = str

# CI names images by the first characters of the full commit id. Such a tag never moves.
_COMMIT_TAG: Final = re.compile(r"sha-([0-9a-f]{7})")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SHORT_COMMIT: Final = 7
# 96 bits, so that two configurations of a host never share a hash.
_HASH_LENGTH: Final = 24

# Releases up to 0.1.0 mount a file there.
DATABASE: Final = "deploy/db/"
MONITORING: Final = "monitoring/"
GRAFANA: Final = "monitoring/grafana/"


@dataclass(frozen=True, slots=True)
class Release:
    """Image tag with its configuration.

    Attributes:
        tag: Tag of the image.
        commit: Full id of the configuration's commit, or None for the working tree.
        files: Configuration by path, as in the work directory.
    """

    tag: str
    commit: str | None
    files: Mapping[str, bytes]

    @property
    def source(self) -> str:
        """Name of the configuration's source, for messages."""
        return f"commit {self.commit[:_SHORT_COMMIT]}" if self.commit else "the working tree"

    @property
    def configuration_hash(self) -> str:
        """Hash of all files. Hosts keep releases under it."""
        return self.digest("")[:_HASH_LENGTH]

    @property
    def is_immutable(self) -> bool:
        """True if the tag always names the same image."""
        return _COMMIT_TAG.fullmatch(self.tag) is not None

    def parse_compose_file(self, target: Target) -> ComposeFile:
        return parse_compose_file(compose_file_name(target), self.compose_content(target))

    def compose_content(self, target: Target) -> bytes:
        """Return the content of the target's compose file."""
        return self._read(compose_file_name(target))

    def settings(self, target: Target) -> dict[str, str]:
        """Return the variables of the target's ``.env`` file."""
        return parse_env_file(self._read(env_file_name(target)))

    def require_tmpfs_file(self, target: Target) -> str:
        """Return the name of the compose file that delivers the target's secrets in memory.

        Raises:
            ConfigurationError: The release does not have this file.
        """
        name = tmpfs_file_name(target)
        self._read(name)
        return name

    def digest(self, below: str, *, except_below: str = "") -> str:
        """Hash the names and contents of the files below a directory."""
        digest = hashlib.sha256()
        for path in sorted(self.files):
            if path.startswith(below) and not (except_below and path.startswith(except_below)):
                content = hashlib.sha256(self.files[path]).hexdigest()
                digest.update(f"{content} {path}\n".encode())
        return digest.hexdigest()

    def _read(self, name: str) -> bytes:
        if name not in self.files:
            raise ConfigurationError(
                f"{self.source} has no {name}",
                hint="Run ktrdr in a checkout of the project, or deploy another commit.",
            )
        return self.files[name]


def compose_file_name(target: Target) -> str:
    """Return the name of the target's compose file."""
    return f"docker-compose.{target}.yml"


def env_file_name(target: Target) -> str:
    """Return the name of the file with the target's settings."""
    return f".env.{target}"


def tmpfs_file_name(target: Target) -> str:
    """Return the name of the compose file that delivers the target's secrets in memory."""
    return f"deploy/tmpfs/{target}.yml"


def shipped_paths(target: Target) -> tuple[str, ...]:
    """Return the paths that belong on hosts of a target. Directories end in a slash."""
    files = (compose_file_name(target), env_file_name(target), tmpfs_file_name(target))
    return (*files, DATABASE, MONITORING) if target == "core" else files


def pack_archive(files: Mapping[str, bytes]) -> bytes:
    """Return a compressed tar archive of files; the same files result in the same bytes."""
    return _pack_archive(tuple(sorted(files.items())))


# All worker nodes receive the same files.
@lru_cache(maxsize=8)
def _pack_archive(files: tuple[tuple[str, bytes], ...]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in files:
            member = tarfile.TarInfo(path)
            member.size = len(content)
            # Prometheus and Grafana read them as users of their own.
            member.mode = 0o644
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def unpack_archive(text: str) -> dict[str, bytes]:
    """Return the files of a base64-encoded archive, or an empty dictionary if it is invalid."""
    try:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text)), mode="r:gz") as tar:
            files = ((member.name, tar.extractfile(member)) for member in tar if member.isfile())
            return {name.removeprefix("./"): file.read() for name, file in files if file}
    except (ValueError, OSError, EOFError, tarfile.TarError, zlib.error):
        return {}


def tag_for_commit(commit: str) -> str:
    """Return the tag that CI gives to the image of a commit."""
    return f"sha-{commit[:_SHORT_COMMIT]}"


def commit_in_tag(tag: str) -> str | None:
    """Return the abbreviated commit id that a tag names, or None if it names none."""
    match = _COMMIT_TAG.fullmatch(tag)
    return match[1] if match else None


def validate_tag(tag: str) -> str:
    """Return the tag if it is valid for images.

    Raises:
        ConfigurationError: It is not valid.
    """
    if not _TAG.fullmatch(tag):
        raise ConfigurationError(
            f"{tag!r} is not a valid image tag",
            hint="Use letters, digits and (not first) `._-`. CI's tags are like sha-abc1234.",
        )
    return tag
