"""The registries: `ghcr.io`, which requires a login, and an open mirror of Docker Hub."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from typing import Any, Final

from lab import certificates, containers, vault
from lab.config import (
    GATEWAY,
    GHCR_PORT,
    MIRROR_PORT,
    NAME,
    REGISTRY_IMAGE,
    REGISTRY_USER,
    STATE,
)
from lab.engine import docker
from lab.shell import run, wait_until

GHCR: Final = f"{NAME}-ghcr"
MIRROR: Final = f"{NAME}-mirror"
_AUTH: Final = STATE / "registry"
_LOGIN: Final = STATE / "docker"
_MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
_MANIFEST_TYPES: Final = ", ".join(
    [
        "application/vnd.docker.distribution.manifest.v2+json",
        _MANIFEST_TYPE,
        _INDEX_TYPE,
    ]
)


def ensure() -> None:
    """Start both registries, with the token of the lab's own vault."""
    set_token(vault.read_field("ghcr_token"))
    data = "/var/lib/docker-registry"
    containers.ensure_running(
        GHCR,
        REGISTRY_IMAGE,
        [
            *("--publish", f"{GATEWAY}:443:443", "--publish", f"127.0.0.1:{GHCR_PORT}:443"),
            *("--volume", f"{GHCR}:{data}", "--volume", f"{_AUTH}:/auth:ro"),
            *("--volume", f"{certificates.DIRECTORY}:/tls:ro"),
            *("--env", "REGISTRY_HTTP_ADDR=:443"),
            *("--env", "REGISTRY_HTTP_TLS_CERTIFICATE=/tls/ghcr.io.crt"),
            *("--env", "REGISTRY_HTTP_TLS_KEY=/tls/ghcr.io.key"),
            *("--env", "REGISTRY_AUTH=htpasswd"),
            *("--env", "REGISTRY_AUTH_HTPASSWD_REALM=lab"),
            *("--env", "REGISTRY_AUTH_HTPASSWD_PATH=/auth/htpasswd"),
        ],
    )
    containers.ensure_running(
        MIRROR,
        REGISTRY_IMAGE,
        [
            *("--publish", f"{GATEWAY}:5000:5000", "--publish", f"127.0.0.1:{MIRROR_PORT}:5000"),
            *("--volume", f"{MIRROR}:{data}"),
        ],
    )
    wait_until_ready()


def wait_until_ready() -> None:
    """Wait until both registries answer."""
    wait_until("the registry answers", lambda: _status(_ghcr_request("/v2/")) == 200)
    wait_until("the mirror answers", lambda: _status(_mirror_request("/v2/")) == 200)


def set_token(token: str) -> None:
    """Set the token that `ghcr.io` accepts, effective immediately."""
    _AUTH.mkdir(parents=True, exist_ok=True)
    password_file, token_file = _AUTH / "htpasswd", _AUTH / "token"
    if password_file.exists() and token_file.exists() and token_file.read_text() == token:
        return
    hashed = run("htpasswd", "-niB", "-C", "5", REGISTRY_USER, stdin=token.encode()).stdout
    # Written in place, because the container mounts this file.
    password_file.write_text(hashed.strip() + "\n")
    token_file.touch(mode=0o600)
    token_file.write_text(token)
    login = f"{REGISTRY_USER}:{token}".encode()
    auth = {f"127.0.0.1:{GHCR_PORT}": {"auth": base64.b64encode(login).decode()}}
    _LOGIN.mkdir(parents=True, exist_ok=True)
    (_LOGIN / "config.json").touch(mode=0o600)
    (_LOGIN / "config.json").write_text(json.dumps({"auths": auth}))


def has_image(repository: str, tag: str) -> bool:
    """Return True if `ghcr.io` has an image."""
    return _status(_ghcr_request(f"/v2/{repository}/manifests/{tag}")) == 200


def push_image(image: str, repository: str, tag: str) -> None:
    """Push an image of this machine to `ghcr.io`."""
    _push(image, f"127.0.0.1:{GHCR_PORT}/{repository}:{tag}")
    _wrap_in_index(_ghcr_request, repository, tag)


def push_to_mirror(image: str, name: str) -> bool:
    """Push an image to the mirror under a name of Docker Hub; return False if it was there."""
    repository, _, tag = name.rpartition(":")
    image_id = run(docker(), "image", "inspect", "--format", "{{.Id}}", image).stdout.strip()
    if _image_id_in_mirror(repository, tag) == image_id:
        return False
    _push(image, f"127.0.0.1:{MIRROR_PORT}/{name}")
    _wrap_in_index(_mirror_request, repository, tag)
    return True


def _image_id_in_mirror(repository: str, tag: str) -> str | None:
    """Return the id of an image's configuration, or None if the mirror does not have it."""
    try:
        index = _get_json(_mirror_request(f"/v2/{repository}/manifests/{tag}"))
        digest = index["manifests"][0]["digest"]
        manifest = _get_json(_mirror_request(f"/v2/{repository}/manifests/{digest}"))
    except (urllib.error.URLError, KeyError, ValueError):
        return None
    found: str = manifest["config"]["digest"]
    return found


def _push(image: str, target: str) -> None:
    run(docker(), "tag", image, target)
    try:
        run(docker(), "--config", str(_LOGIN), "push", "--quiet", target, timeout=600)
    finally:
        run(docker(), "image", "rm", target, check=False)


def _wrap_in_index(
    request: Callable[[str], urllib.request.Request], repository: str, tag: str
) -> None:
    """Replace a tag's manifest by an index with an attestation, as docker/build-push-action pushes.

    Format: https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md
    """
    with _open(request(f"/v2/{repository}/manifests/{tag}")) as response:
        content = response.read()
        media_type = response.headers["Content-Type"]
    if media_type == _INDEX_TYPE:
        return
    image = _descriptor(content, media_type)
    statement = _put_blob(
        request,
        repository,
        {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{"name": tag, "digest": {"sha256": image["digest"].partition(":")[2]}}],
            "predicate": {},
        },
        "application/vnd.in-toto+json",
    )
    unknown = {"architecture": "unknown", "os": "unknown"}
    configuration = _put_blob(
        request,
        repository,
        {**unknown, "config": {}, "rootfs": {"type": "layers", "diff_ids": [statement["digest"]]}},
        "application/vnd.oci.image.config.v1+json",
    )
    attestation = _encode(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": configuration,
            "layers": [statement],
        }
    )
    attested = _descriptor(attestation, _MANIFEST_TYPE)
    _put_manifest(request, repository, attested["digest"], attestation, _MANIFEST_TYPE)
    index = {
        "schemaVersion": 2,
        "mediaType": _INDEX_TYPE,
        "manifests": [
            {**image, "platform": {"architecture": _architecture(), "os": "linux"}},
            {
                **attested,
                "platform": unknown,
                "annotations": {
                    "vnd.docker.reference.digest": image["digest"],
                    "vnd.docker.reference.type": "attestation-manifest",
                },
            },
        ],
    }
    _put_manifest(request, repository, tag, _encode(index), _INDEX_TYPE)


def _architecture() -> str:
    return run(docker(), "version", "--format", "{{.Server.Arch}}").stdout.strip()


def _put_blob(
    request: Callable[[str], urllib.request.Request],
    repository: str,
    document: dict[str, Any],
    media_type: str,
) -> dict[str, Any]:
    content = _encode(document)
    descriptor = _descriptor(content, media_type)
    begin = request(f"/v2/{repository}/blobs/uploads/")
    begin.method = "POST"
    begin.data = b""
    with _open(begin) as response:
        location = urllib.parse.urlsplit(response.headers["Location"])
    upload = request(f"{location.path}?{location.query}&digest={descriptor['digest']}")
    upload.method, upload.data = "PUT", content
    upload.add_header("Content-Type", "application/octet-stream")
    _open(upload).close()
    return descriptor


def _put_manifest(
    request: Callable[[str], urllib.request.Request],
    repository: str,
    reference: str,
    content: bytes,
    media_type: str,
) -> None:
    upload = request(f"/v2/{repository}/manifests/{reference}")
    upload.method, upload.data = "PUT", content
    upload.add_header("Content-Type", media_type)
    _open(upload).close()


def _descriptor(content: bytes, media_type: str) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def _get_json(request: urllib.request.Request) -> Any:
    with _open(request) as response:
        return json.load(response)


def _ghcr_request(path: str) -> urllib.request.Request:
    login = f"{REGISTRY_USER}:{(_AUTH / 'token').read_text()}".encode()
    headers = {
        "Authorization": f"Basic {base64.b64encode(login).decode()}",
        "Accept": _MANIFEST_TYPES,
    }
    return urllib.request.Request(f"https://127.0.0.1:{GHCR_PORT}{path}", headers=headers)


def _mirror_request(path: str) -> urllib.request.Request:
    headers = {"Accept": _MANIFEST_TYPES}
    return urllib.request.Request(f"http://127.0.0.1:{MIRROR_PORT}{path}", headers=headers)


def _status(request: urllib.request.Request) -> int:
    try:
        with _open(request) as response:
            status: int = response.status
            return status
    except urllib.error.HTTPError as exc:
        return exc.code
    except (urllib.error.URLError, OSError, http.client.HTTPException):
        return 0


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    context = ssl.create_default_context(cafile=str(certificates.AUTHORITY))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    response: http.client.HTTPResponse = opener.open(request, timeout=10)
    return response
