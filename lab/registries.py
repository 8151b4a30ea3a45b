"""Two registries: `ghcr.io`, which wants a login, and an open mirror of Docker Hub."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.error
import urllib.request
from typing import Final

from lab import certificates, containers, vault
from lab.engine import docker
from lab.place import (
    GHCR_PORT,
    MIRROR_PORT,
    NAME,
    REGISTRY_IMAGE,
    REGISTRY_USER,
    STATE,
)
from lab.shell import run, wait_until

GHCR: Final = f"{NAME}-ghcr"
MIRROR: Final = f"{NAME}-mirror"
_AUTH: Final = STATE / "registry"
_LOGIN: Final = STATE / "docker"
_ANY_MANIFEST: Final = ", ".join(
    [
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
    ]
)


def ensure() -> None:
    """Brings both up, with the token of the lab's own vault."""
    certificates.ensure()
    allow(vault.field("ghcr_token"))
    data = "/var/lib/docker-registry"
    containers.ensure(
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
            *("--env", "REGISTRY_AUTH_HTPASSWD_REALM=rehearsal"),
            *("--env", "REGISTRY_AUTH_HTPASSWD_PATH=/auth/htpasswd"),
        ],
    )
    containers.ensure(
        MIRROR,
        REGISTRY_IMAGE,
        [
            *("--network-alias", "mirror", "--publish", f"127.0.0.1:{MIRROR_PORT}:5000"),
            *("--volume", f"{MIRROR}:{data}"),
        ],
    )
    wait()


def wait() -> None:
    """Waits until both answer, the one with a login to that of the lab's own vault or another."""
    wait_until("the registry answers", lambda: _status(_ghcr("/v2/")) in (200, 401))
    wait_until("the mirror answers", lambda: _status(_mirror("/v2/")) == 200)


def allow(token: str) -> None:
    """Makes a token the one that opens the registry, at once."""
    _AUTH.mkdir(parents=True, exist_ok=True)
    file, seen = _AUTH / "htpasswd", _AUTH / "token"
    if file.exists() and seen.exists() and seen.read_text() == token:
        return
    hashed = run("htpasswd", "-niB", "-C", "5", REGISTRY_USER, given=token.encode()).stdout
    # Written in place: the container has this very file mounted.
    file.write_text(hashed.strip() + "\n")
    seen.touch(mode=0o600)
    seen.write_text(token)
    login = f"{REGISTRY_USER}:{token}".encode()
    auth = {f"127.0.0.1:{GHCR_PORT}": {"auth": base64.b64encode(login).decode()}}
    _LOGIN.mkdir(parents=True, exist_ok=True)
    (_LOGIN / "config.json").touch(mode=0o600)
    (_LOGIN / "config.json").write_text(json.dumps({"auths": auth}))


def has(repository: str, tag: str) -> bool:
    """Whether the registry that is `ghcr.io` has an image."""
    return _status(_ghcr(f"/v2/{repository}/manifests/{tag}")) == 200


def push(image: str, repository: str, tag: str) -> None:
    """Puts an image of this machine into the registry that is `ghcr.io`."""
    _push(image, f"127.0.0.1:{GHCR_PORT}/{repository}:{tag}")


def push_to_mirror(image: str, name: str) -> bool:
    """Puts an image into the mirror under a name of Docker Hub; says whether that was needed."""
    target = f"127.0.0.1:{MIRROR_PORT}/{name}"
    repository, _, tag = name.rpartition(":")
    wanted = run(docker(), "image", "inspect", "--format", "{{.Id}}", image).stdout.strip()
    if _config_in_mirror(repository, tag) == wanted:
        return False
    _push(image, target)
    return True


def _config_in_mirror(repository: str, tag: str) -> str | None:
    """The id of the image that the mirror has under a name."""
    try:
        with urllib.request.urlopen(_mirror(f"/v2/{repository}/manifests/{tag}"), timeout=10) as it:
            digest: str = json.load(it)["config"]["digest"]
            return digest
    except (urllib.error.URLError, KeyError, ValueError):
        return None


def _push(image: str, target: str) -> None:
    run(docker(), "tag", image, target)
    try:
        run(docker(), "--config", str(_LOGIN), "push", "--quiet", target, timeout=600)
    finally:
        run(docker(), "image", "rm", target, check=False)


def _ghcr(path: str) -> urllib.request.Request:
    login = f"{REGISTRY_USER}:{vault.field('ghcr_token')}".encode()
    headers = {
        "Authorization": f"Basic {base64.b64encode(login).decode()}",
        "Accept": _ANY_MANIFEST,
    }
    return urllib.request.Request(f"https://127.0.0.1:{GHCR_PORT}{path}", headers=headers)


def _mirror(path: str) -> urllib.request.Request:
    headers = {"Accept": _ANY_MANIFEST}
    return urllib.request.Request(f"http://127.0.0.1:{MIRROR_PORT}{path}", headers=headers)


def _status(request: urllib.request.Request) -> int:
    context = ssl.create_default_context(cafile=str(certificates.AUTHORITY))
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
    )
    try:
        with opener.open(request, timeout=10) as answer:
            status: int = answer.status
            return status
    except urllib.error.HTTPError as exc:
        return exc.code
    except (urllib.error.URLError, OSError, http.client.HTTPException):
        return 0
