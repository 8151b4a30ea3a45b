"""The registries: `ghcr.io`, which requires a login, and an open mirror of Docker Hub."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.error
import urllib.request
from typing import Final

from lab import certificates, containers, vault
from lab.config import (
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
_MANIFEST_TYPES: Final = ", ".join(
    [
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    ]
)


def ensure() -> None:
    """Start both registries, with the token of the lab's own vault."""
    certificates.ensure()
    set_token(vault.read_field("ghcr_token"))
    data = "/var/lib/docker-registry"
    containers.ensure_running(
        GHCR,
        REGISTRY_IMAGE,
        [
            *("--network-alias", "ghcr.io", "--publish", f"127.0.0.1:{GHCR_PORT}:443"),
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
            *("--network-alias", "mirror", "--publish", f"127.0.0.1:{MIRROR_PORT}:5000"),
            *("--volume", f"{MIRROR}:{data}"),
        ],
    )
    wait_until_ready()


def wait_until_ready() -> None:
    """Wait until both registries answer. `ghcr.io` may refuse the token of the lab's vault."""
    wait_until("the registry answers", lambda: _status(_ghcr_request("/v2/")) in (200, 401))
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


def push_to_mirror(image: str, name: str) -> bool:
    """Push an image to the mirror under a name of Docker Hub; return False if it was there."""
    target = f"127.0.0.1:{MIRROR_PORT}/{name}"
    repository, _, tag = name.rpartition(":")
    image_id = run(docker(), "image", "inspect", "--format", "{{.Id}}", image).stdout.strip()
    if _image_id_in_mirror(repository, tag) == image_id:
        return False
    _push(image, target)
    return True


def _image_id_in_mirror(repository: str, tag: str) -> str | None:
    request = _mirror_request(f"/v2/{repository}/manifests/{tag}")
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            digest: str = json.load(response)["config"]["digest"]
            return digest
    except (urllib.error.URLError, KeyError, ValueError):
        return None


def _push(image: str, target: str) -> None:
    run(docker(), "tag", image, target)
    try:
        run(docker(), "--config", str(_LOGIN), "push", "--quiet", target, timeout=600)
    finally:
        run(docker(), "image", "rm", target, check=False)


def _ghcr_request(path: str) -> urllib.request.Request:
    login = f"{REGISTRY_USER}:{vault.read_field('ghcr_token')}".encode()
    headers = {
        "Authorization": f"Basic {base64.b64encode(login).decode()}",
        "Accept": _MANIFEST_TYPES,
    }
    return urllib.request.Request(f"https://127.0.0.1:{GHCR_PORT}{path}", headers=headers)


def _mirror_request(path: str) -> urllib.request.Request:
    headers = {"Accept": _MANIFEST_TYPES}
    return urllib.request.Request(f"http://127.0.0.1:{MIRROR_PORT}{path}", headers=headers)


def _status(request: urllib.request.Request) -> int:
    context = ssl.create_default_context(cafile=str(certificates.AUTHORITY))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=10) as response:
            status: int = response.status
            return status
    except urllib.error.HTTPError as exc:
        return exc.code
    except (urllib.error.URLError, OSError, http.client.HTTPException):
        return 0
