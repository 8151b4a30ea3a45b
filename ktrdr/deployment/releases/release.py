"""A release: the tag of an image, and the configuration that belongs to it."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tarfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ktrdr.deployment.releases import compose_file as stack
from ktrdr.deployment.releases.compose_file import Stack
from ktrdr.errors import ConfigurationError

Target = str

# What CI names images by: the first characters of the full commit id. Such a tag never moves.
_COMMIT_TAG: Final = re.compile(r"sha-([0-9a-f]{7})")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_SHORT: Final = 7
# Of a hash of 256 bits, enough for no two configurations of a host ever to share it.
_CONFIGURATION_HASH: Final = 24

# Of releases up to 0.1.0, which mount a file there.
DATABASE: Final = "deploy/db/"
MONITORING: Final = "monitoring/"
GRAFANA: Final = "monitoring/grafana/"


@dataclass(frozen=True, slots=True)
class Release:
    """What is to run.

    Attributes:
        tag: The image's tag.
        commit: The full id of the commit that the configuration is of, or None for that of the
            working tree.
        files: The configuration by path, as it is put into the work directory.
    """

    tag: str
    commit: str | None
    files: Mapping[str, bytes]

    @property
    def source(self) -> str:
        """Where the configuration comes from, in words."""
        return f"commit {self.commit[:_SHORT]}" if self.commit else "the working tree"

    @property
    def configuration(self) -> str:
        """A hash over all of its files, by which hosts keep them."""
        return self.digest("")[:_CONFIGURATION_HASH]

    @property
    def is_immutable(self) -> bool:
        """Whether the tag names one image for ever, so that having it is having the latest."""
        return _COMMIT_TAG.fullmatch(self.tag) is not None

    def stack(self, target: Target) -> Stack:
        """What the compose file of the target says."""
        return stack.read(compose_file(target), self.compose(target))

    def compose(self, target: Target) -> bytes:
        """The compose file of the target."""
        return self._file(compose_file(target))

    def settings(self, target: Target) -> dict[str, str]:
        """The variables of the target's ``.env`` file."""
        return stack.read_settings(self._file(env_file(target)))

    def in_memory(self, target: Target) -> str:
        """The name of the compose file that delivers the target's secrets in memory.

        Raises:
            ConfigurationError: The release has none.
        """
        name = memory_file(target)
        self._file(name)
        return name

    def digest(self, below: str, *, except_below: str = "") -> str:
        """A hash over names and contents of the files under a directory; changes with any."""
        whole = hashlib.sha256()
        for path in sorted(self.files):
            if path.startswith(below) and not (except_below and path.startswith(except_below)):
                content = hashlib.sha256(self.files[path]).hexdigest()
                whole.update(f"{content} {path}\n".encode())
        return whole.hexdigest()

    def _file(self, name: str) -> bytes:
        if name not in self.files:
            raise ConfigurationError(
                f"{self.source} has no {name}",
                hint="Run ktrdr in a checkout of the project, or deploy another commit.",
            )
        return self.files[name]


def compose_file(target: Target) -> str:
    """The name of the target's compose file."""
    return f"docker-compose.{target}.yml"


def env_file(target: Target) -> str:
    """The name of the file with the target's settings."""
    return f".env.{target}"


def memory_file(target: Target) -> str:
    """The name of the compose file that delivers the target's secrets in memory."""
    return f"deploy/tmpfs/{target}.yml"


def shipped_paths(target: Target) -> tuple[str, ...]:
    """What belongs on a host of this target; a path that ends in a slash is a directory."""
    files = (compose_file(target), env_file(target), memory_file(target))
    return (*files, DATABASE, MONITORING) if target == "core" else files


def unpacked(text: str) -> dict[str, bytes]:
    """The files of an archive that came as base64; empty where it is none."""
    try:
        with tarfile.open(fileobj=io.BytesIO(base64.b64decode(text)), mode="r:gz") as tar:
            opened = ((member.name, tar.extractfile(member)) for member in tar if member.isfile())
            return {name.removeprefix("./"): file.read() for name, file in opened if file}
    except (ValueError, OSError, EOFError, tarfile.TarError, zlib.error):
        return {}


def tag_of(commit: str) -> str:
    """The tag that CI gives the image of a commit."""
    return f"sha-{commit[:_SHORT]}"


def commit_in(tag: str) -> str | None:
    """The beginning of the commit id that a tag names, or None if it names none."""
    found = _COMMIT_TAG.fullmatch(tag)
    return found[1] if found else None


def checked_tag(tag: str) -> str:
    """The tag, if an image can have it.

    Raises:
        ConfigurationError: It cannot.
    """
    if not _TAG.fullmatch(tag):
        raise ConfigurationError(
            f"{tag!r} cannot be an image's tag",
            hint="Use letters, digits and (not first) `._-`; CI's tags are like sha-abc1234.",
        )
    return tag
