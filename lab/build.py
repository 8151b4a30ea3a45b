"""Image builds, skipped if the content has not changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from lab.config import BASE_IMAGE, LABEL, STATE
from lab.engine import docker
from lab.progress import LabError, Progress
from lab.shell import run, succeeds

HASH_LABEL: Final = f"{LABEL}.hash"
STANDIN_LABEL: Final = f"{LABEL}.stand-in"
SUITE: Final = "bookworm"
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


def ensure_base_image(progress: Progress) -> None:
    """Create a bare Debian image from packages, without a registry."""
    if succeeds(docker(), "image", "inspect", BASE_IMAGE):
        return
    with progress.step("create a bare Debian image from packages (debootstrap)"):
        target = Path(tempfile.mkdtemp(prefix="ktrdr-lab-debian-"))
        try:
            run("debootstrap", "--variant=minbase", SUITE, str(target), *_package_mirror())
            _adapt(target)
            _import_image(target)
        finally:
            shutil.rmtree(target, ignore_errors=True)


def _package_mirror() -> list[str]:
    """Return the package mirror of this machine, if it runs the same Debian release."""
    template = "$(ORIGIN) $(CODENAME) $(REPO_URI)"
    done = run("apt-get", "indextargets", "--format", template, check=False)
    for line in done.stdout.splitlines():
        origin, _, rest = line.partition(" ")
        codename, _, uri = rest.partition(" ")
        if (origin, codename) == ("Debian", SUITE):
            return [uri]
    return []


def _adapt(target: Path) -> None:
    """Copy this machine's certificates, and keep the package cache small."""
    if CA_BUNDLE.exists():
        certificates = target / CA_BUNDLE.relative_to("/")
        certificates.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CA_BUNDLE, certificates)
    shutil.rmtree(target / "var/cache/apt", ignore_errors=True)
    (target / "var/cache/apt/archives/partial").mkdir(parents=True)
    (target / "etc/apt/apt.conf.d/99lab").write_text(
        'APT::Install-Recommends "false";\nAcquire::Languages "none";\n'
    )
    # There is no init process that could start services.
    policy = target / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


def _import_image(target: Path) -> None:
    with subprocess.Popen(
        ["tar", "--create", "--numeric-owner", "--directory", str(target), "."],
        stdout=subprocess.PIPE,
    ) as archive:
        done = subprocess.run(
            [docker(), "import", "--change", "CMD bash", "-", BASE_IMAGE],
            stdin=archive.stdout,
            capture_output=True,
            check=False,
        )
    if archive.returncode or done.returncode:
        raise LabError(f"cannot import the Debian image: {done.stderr.decode().strip()}")


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
