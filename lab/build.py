"""Builds images, and knows by a hash when there is nothing to do."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from lab.engine import docker
from lab.place import BASE_IMAGE, LABEL, STATE
from lab.report import LabError, Report
from lab.shell import run, works

HASH_LABEL: Final = f"{LABEL}.hash"
STANDIN_LABEL: Final = f"{LABEL}.stand-in"
SUITE: Final = "bookworm"
CA_BUNDLE: Final = Path("/etc/ssl/certs/ca-certificates.crt")


def digest_of(*parts: Path | str) -> str:
    """A hash over files, directories and texts."""
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


def label_of(image: str, label: str = HASH_LABEL) -> str | None:
    """A label of an image, or None when there is no such image or label."""
    template = f'{{{{ index .Config.Labels "{label}" }}}}'
    done = run(docker(), "image", "inspect", "--format", template, image, check=False)
    return done.stdout.strip() or None if done.returncode == 0 else None


def build(
    image: str,
    context: Path,
    *,
    dockerfile: Path | None = None,
    arguments: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    fingerprint: str | None = None,
) -> bool:
    """Builds an image unless there is one of the same content; says whether it did.

    Args:
        image: Its name and tag.
        context: The build context.
        dockerfile: Where it is, if not in the context.
        arguments: Build arguments.
        labels: Labels besides the hash.
        fingerprint: What the content is known by; by default a hash of the context.
    """
    given, marks = dict(arguments or {}), dict(labels or {})
    base = run(docker(), "image", "inspect", "--format", "{{.Id}}", BASE_IMAGE, check=False).stdout
    content = fingerprint or digest_of(context)
    wanted = digest_of(content, repr(sorted(given.items())), repr(sorted(marks.items())), base)
    if label_of(image) == wanted:
        return False
    marks[HASH_LABEL] = wanted
    command = [docker(), "build", "--quiet", "--network", "host", "--tag", image]
    command += [
        word for name, value in given.items() for word in ("--build-arg", f"{name}={value}")
    ]
    command += [word for name, value in marks.items() for word in ("--label", f"{name}={value}")]
    command += [word for secret in _secrets() for word in ("--secret", secret)]
    if dockerfile is not None:
        command += ["--file", str(dockerfile)]
    run(*command, str(context), env={**os.environ, "DOCKER_BUILDKIT": "1"})
    return True


def ensure_base(report: Report) -> None:
    """A bare Debian, from its own packages: no registry is asked."""
    if works(docker(), "image", "inspect", BASE_IMAGE):
        return
    with report.step("making a bare Debian image from packages (debootstrap)"):
        target = Path(tempfile.mkdtemp(prefix="ktrdr-lab-debian-"))
        try:
            run("debootstrap", "--variant=minbase", SUITE, str(target), *_mirror())
            _adapt(target)
            _import(target)
        finally:
            shutil.rmtree(target, ignore_errors=True)


def _mirror() -> list[str]:
    """Where this machine gets its own packages from, if it is the same Debian."""
    template = "$(ORIGIN) $(CODENAME) $(REPO_URI)"
    done = run("apt-get", "indextargets", "--format", template, check=False)
    for line in done.stdout.splitlines():
        origin, _, rest = line.partition(" ")
        codename, _, uri = rest.partition(" ")
        if (origin, codename) == ("Debian", SUITE):
            return [uri]
    return []


def _adapt(target: Path) -> None:
    """Gives the new system this machine's certificates, and keeps its package cache small."""
    if CA_BUNDLE.exists():
        certificates = target / CA_BUNDLE.relative_to("/")
        certificates.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CA_BUNDLE, certificates)
    shutil.rmtree(target / "var/cache/apt", ignore_errors=True)
    (target / "var/cache/apt/archives/partial").mkdir(parents=True)
    (target / "etc/apt/apt.conf.d/99lab").write_text(
        'APT::Install-Recommends "false";\nAcquire::Languages "none";\n'
    )
    # There is no init that could start services.
    policy = target / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)


def _import(target: Path) -> None:
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
        raise LabError(f"the Debian image cannot be imported: {done.stderr.decode().strip()}")


def _secrets() -> Iterable[str]:
    """How this machine reaches its package index: for the build only, in no layer."""
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
