"""Images for a registry, made without Docker: with busybox, in an index or without one."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

_OCI = "application/vnd.oci.image"
_BUSYBOX = "/bin/busybox"


@dataclass(frozen=True)
class Pushed:
    """Image in a registry.

    Attributes:
        digest: Digest that its tag names: of the index, or of the manifest.
        manifest: Digest of the manifest for linux/amd64.
        config: Digest of its configuration.
    """

    digest: str
    manifest: str
    config: str


@dataclass(frozen=True)
class OciRegistry:
    """Registry that accepts everything.

    Attributes:
        url: Its URL for this machine.
    """

    url: str

    def push(
        self, name: str, content: str, *, attestation: str = "", indexed: bool = True
    ) -> Pushed:
        """Push an image, which replaces what the tag has named so far.

        Args:
            name: Repository and tag, without the registry.
            content: Content of a file in the image.
            attestation: Content of the attestation that the index lists beside the image.
            indexed: Whether the tag names an index, as with docker/build-push-action.
        """
        repository, _, tag = name.rpartition(":")
        layer = _layer(content)
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["/bin/sleep", "1000000"], "Labels": {"content": content}},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
        image = {
            "config": self._blob(repository, _json(config), f"{_OCI}.config.v1+json"),
            "layers": [
                self._blob(repository, gzip.compress(layer, mtime=0), f"{_OCI}.layer.v1.tar+gzip")
            ],
        }
        manifest = self._manifest(repository, "" if indexed else tag, "manifest", image)
        if not indexed:
            return Pushed(manifest["digest"], manifest["digest"], _digest(_json(config)))
        statement = _json({"predicateType": "https://slsa.dev/provenance/v1", "is": attestation})
        empty = {"architecture": "unknown", "os": "unknown", "rootfs": {"diff_ids": []}}
        attested = {
            "config": self._blob(repository, _json(empty), f"{_OCI}.config.v1+json"),
            "layers": [self._blob(repository, statement, "application/vnd.in-toto+json")],
        }
        other = self._manifest(repository, "", "manifest", attested)
        index = {
            "manifests": [
                {**manifest, "platform": {"os": "linux", "architecture": "amd64"}},
                {
                    **other,
                    "platform": {"os": "unknown", "architecture": "unknown"},
                    "annotations": {
                        "vnd.docker.reference.digest": manifest["digest"],
                        "vnd.docker.reference.type": "attestation-manifest",
                    },
                },
            ]
        }
        pushed = self._manifest(repository, tag, "index", index)
        return Pushed(pushed["digest"], manifest["digest"], _digest(_json(config)))

    def _blob(self, repository: str, content: bytes, kind: str) -> dict[str, Any]:
        started = self._send("POST", f"/v2/{repository}/blobs/uploads/", b"", kind)
        separator = "&" if "?" in started else "?"
        self._send("PUT", f"{started}{separator}digest={_digest(content)}", content, kind)
        return {"mediaType": kind, "digest": _digest(content), "size": len(content)}

    def _manifest(
        self, repository: str, tag: str, name: str, fields: dict[str, Any]
    ) -> dict[str, Any]:
        kind = f"{_OCI}.{name}.v1+json"
        content = _json({"schemaVersion": 2, "mediaType": kind, **fields})
        self._send("PUT", f"/v2/{repository}/manifests/{tag or _digest(content)}", content, kind)
        return {"mediaType": kind, "digest": _digest(content), "size": len(content)}

    def _send(self, method: str, path: str, content: bytes, kind: str) -> str:
        request = urllib.request.Request(
            urljoin(self.url, path), content, {"Content-Type": kind}, method=method
        )
        with urllib.request.urlopen(request, timeout=30) as response:
            return str(response.headers.get("Location", ""))


@cache
def _layer(content: str) -> bytes:
    """Return the layer of an image with a shell."""
    libraries = subprocess.run(["ldd", _BUSYBOX], capture_output=True, text=True, check=False)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in (_BUSYBOX, *re.findall(r"/\S+", libraries.stdout)):
            _add(tar, name.lstrip("/"), Path(name).read_bytes())
        for program in ("sh", "sleep", "true"):
            link = tarfile.TarInfo(f"bin/{program}")
            link.type, link.linkname = tarfile.SYMTYPE, _BUSYBOX
            tar.addfile(link)
        _add(tar, "content", content.encode())
    return buffer.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), 0o755
    tar.addfile(member, io.BytesIO(content))


def _json(document: Any) -> bytes:
    return json.dumps(document).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
