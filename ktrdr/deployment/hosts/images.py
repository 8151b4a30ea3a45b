"""Images of a host, and the ways of writing their names.

Docker's classic store identifies an image by its configuration; containerd's by what the registry
served: a manifest, or an index of several and their attestations. If only the index changes,
Compose leaves the containers alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from ktrdr.deployment.hosts.containers import Container

# From this version on, Compose records the platform's manifest, not the index.
_RECORDS_MANIFEST: Final = (5, 4)
# Parts of a name that Docker leaves out.
_DOCKER_HUB: Final = re.compile(r"(?:(?:index\.)?docker\.io/)?(?:library/(?=[^/]*\Z))?")
_SHORT_DIGEST: Final = len("sha256:") + 12


class ImageName(NamedTuple):
    """Parts of an image's name, without ``docker.io`` and ``library``; a missing part is empty."""

    repository: str
    tag: str
    digest: str

    @property
    def version(self) -> str:
        """Return the tag, or else the beginning of the digest."""
        return self.tag or self.digest[:_SHORT_DIGEST]


def parse_image_name(name: str) -> ImageName:
    """Split the name of an image as Docker does; without tag and digest, the tag is ``latest``."""
    tagged, _, digest = name.partition("@")
    # A colon before the last slash begins a port.
    path, slash, last = tagged.rpartition("/")
    last, _, tag = last.partition(":")
    repository = _DOCKER_HUB.sub("", f"{path}{slash}{last}", count=1)
    return ImageName(repository, tag or ("" if digest else "latest"), digest)


@dataclass(frozen=True, slots=True)
class Image:
    """Image on a host.

    Attributes:
        id: Its id in Docker's store.
        content_id: Id of what a container runs: the manifest if it is an index, else the same.
        names: Its names with digests of registries.
        digest: Digest of what the registry served, in containerd's store; empty in the classic one.
    """

    id: str
    content_id: str
    names: tuple[str, ...] = ()
    digest: str = ""

    def registry_digests(self, name: str) -> tuple[str, ...]:
        """Return the digests that a registry may have for a name; none if it was built here.

        The classic store keeps the digests of all tags of an image, in no order.
        """
        wanted = parse_image_name(name)
        if wanted.digest:
            return (wanted.digest,)
        names = map(parse_image_name, self.names)
        found = {each.digest for each in names if each.repository == wanted.repository}
        return tuple(sorted(found)) or ((self.digest,) if self.digest else ())

    def recorded_ids(self, compose: str) -> tuple[str, ...]:
        """Return what a version of Compose may record with a container of this image."""
        version = re.match(r"v?(\d+)\.(\d+)", compose)
        if not version:
            return (self.id, self.content_id)
        is_new = tuple(map(int, version.groups())) >= _RECORDS_MANIFEST
        return (self.content_id if is_new else self.id,)


def parse_images(lines: Iterable[str], containers: Iterable[Container] = ()) -> dict[str, Image]:
    """Parse lines ``NAME MANIFEST JSON``; return the images by name.

    The manifest is missing (``-``) if a container runs the image, because the container names it.
    """
    known = {each.store_image_id: each.manifest for each in containers if each.manifest}
    images = {}
    for line in lines:
        name, manifest, text = [*line.split(" ", 2), "", ""][:3]
        try:
            entry = json.loads(text)
            image_id, names = entry["id"], tuple(entry["digests"] or ())
            digest = (entry["descriptor"] or {}).get("digest", "")
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        content_id = known.get(image_id, image_id) if manifest == "-" else manifest
        images[name] = Image(image_id, content_id, names, digest)
    return images
