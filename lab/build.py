"""Image builds, skipped if the content has not changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from lab.config import BASE_IMAGE, LABEL, STATE
from lab.engine import docker
from lab.shell import run

HASH_LABEL: Final = f"{LABEL}.hash"
STANDIN_LABEL: Final = f"{LABEL}.stand-in"
CA_BUNDLE: Final = Path("/etc/ssl/certs/ca-certificates.crt")


def hash_content(*parts: Path | str) -> str:
    """Return a hash of files, directories and texts."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            total.update(part.encode())
            continue
        files = sorted(p for p in part.rglob("*") if p.is_file()) if part.is_dir() else [part]
        for file in files:
            if "__pycache__" not in file.parts:
                total.update(str(file.relative_to(part.parent)).encode())
                total.update(file.read_bytes())
    return total.hexdigest()


def image_label(image: str, label: str = HASH_LABEL) -> str | None:
    """Return a label of an image, or None if the image or the label does not exist."""
    template = f'{{{{ index .Config.Labels "{label}" }}}}'
    done = run(docker(), "image", "inspect", "--format", template, image, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None


def build_image(
    image: str,
    context: Path,
    *,
    dockerfile: Path | None = None,
    arguments: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    fingerprint: str | None = None,
) -> bool:
    """Build an image unless it exists with the same content.

    Args:
        image: Name and tag.
        context: Build context.
        dockerfile: Path of the Dockerfile, if it is not in the context.
        arguments: Build arguments.
        labels: Labels besides the hash.
        fingerprint: Identity of the content; default: a hash of the context.

    Returns:
        True if the image was built.
    """
    build_arguments, all_labels = dict(arguments or {}), dict(labels or {})
    base = run(docker(), "image", "inspect", "--format", "{{.Id}}", BASE_IMAGE, check=False).stdout
    content = fingerprint or hash_content(context)
    new_hash = hash_content(
        content, repr(sorted(build_arguments.items())), repr(sorted(all_labels.items())), base
    )
    if image_label(image) == new_hash:
        return False
    all_labels[HASH_LABEL] = new_hash
    command = [docker(), "build", "--quiet", "--network", "host", "--tag", image]
    for name, value in build_arguments.items():
        command += ["--build-arg", f"{name}={value}"]
    for name, value in all_labels.items():
        command += ["--label", f"{name}={value}"]
    for secret in _build_secrets():
        command += ["--secret", secret]
    if dockerfile is not None:
        command += ["--file", str(dockerfile)]
    run(*command, str(context), env={**os.environ, "DOCKER_BUILDKIT": "1"})
    return True


def _build_secrets() -> Iterable[str]:
    """Yield build secrets for this machine's package index; they are in no layer."""
    if CA_BUNDLE.exists():
        yield f"id=ca.crt,src={CA_BUNDLE}"
    configuration = STATE / "pip.conf"
    configuration.parent.mkdir(parents=True, exist_ok=True)
    configuration.write_text(_pip_configuration())
    yield f"id=pip.conf,src={configuration}"


def _pip_configuration() -> str:
    done = run("python3", "-m", "pip", "config", "list", check=False)
    lines = ["[global]"]
    for line in done.stdout.splitlines():
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        remote = [word for word in value.strip("'\"").split() if word.startswith("http")]
        if key in ("index-url", "extra-index-url") and remote:
            lines.append(f"{key} = {' '.join(remote)}")
    return "\n".join(lines) + "\n"
