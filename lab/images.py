"""The images of the lab: hosts, registry, third-party programs, and KTRDR."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from lab import registries
from lab.build import STANDIN_LABEL, build_image, hash_content
from lab.config import (
    BACKEND_REPOSITORY,
    BASE_IMAGE,
    IMAGES,
    NFS_REPOSITORY,
    PYTHON_IMAGE,
    REGISTRY_IMAGE,
    ROOT,
    STATE,
)
from lab.progress import Progress
from lab.shell import run
from lab.wheels import download_wheels

_COMPOSE_FILE: Final = ROOT / "docker-compose.core.yml"
_CONTEXTS: Final = STATE / "build"
_BACKEND_IMAGE: Final = "ktrdr-lab/ktrdr-backend"
_NFS_IMAGE: Final = "ktrdr-lab/ktrdr-nfs-server"
# Sources of the backend image; `.dockerignore` lists the same for the build.
_BACKEND_SOURCES: Final = ("deploy/Dockerfile", "deploy/slim.py", "deploy/warm.py", "ktrdr")
_BACKEND_FILES: Final = ("deploy/healthcheck.py", "requirements/runtime.txt", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class ThirdParty:
    """A third-party program of the compose files, with its replacement in the lab.

    Attributes:
        service: Service that runs the program.
        replacement: Description of the replacement: the real program of another version, or a
            stand-in.
    """

    service: str
    replacement: str


THIRD_PARTIES: Final = (
    ThirdParty("db", "TimescaleDB 2.19 on PostgreSQL 17, both of Debian"),
    ThirdParty("prometheus", "Prometheus 3.5 of Debian"),
    ThirdParty("grafana", "a stand-in"),
    ThirdParty("jaeger", "a stand-in: a real OTLP receiver"),
)


@dataclass(frozen=True, slots=True)
class Version:
    """The version that is checked out.

    Attributes:
        commit: Full id of the commit.
        tag: Tag of its images in the lab.
        is_clean: True if the working tree has no changes, so that the tag always names the same
            image.
    """

    commit: str
    tag: str
    is_clean: bool


def checked_out_version() -> Version:
    """Return the checked-out version. Its tag shows uncommitted changes."""
    commit = run("git", "rev-parse", "HEAD", check=False).stdout.strip()
    if not commit:
        return Version("unknown", "dev", is_clean=False)
    changes = run("git", "status", "--porcelain", check=False).stdout.strip()
    suffix = "-dirty" if changes else ""
    return Version(commit, f"sha-{commit[:7]}{suffix}", is_clean=not changes)


def third_party_images() -> Mapping[str, str]:
    """Return the image of each third-party service, as the compose file names it."""
    services = yaml.safe_load(_COMPOSE_FILE.read_text())["services"]
    return {party.service: str(services[party.service]["image"]) for party in THIRD_PARTIES}


def build_base_images(progress: Progress) -> None:
    """Build the image of the registries, and the base of the other images."""
    with progress.step("build the images of registry and Python"), ThreadPoolExecutor(2) as pool:
        registry = pool.submit(build_image, REGISTRY_IMAGE, IMAGES / "registry")
        build_image(PYTHON_IMAGE, IMAGES / "python")
        registry.result()


def push_third_party_images(progress: Progress) -> list[str]:
    """Build the replacements of third-party images, and push them to the mirror.

    Returns:
        Names of the images that have changed.
    """
    title = "build the images of database, Prometheus, Grafana and Jaeger"
    with progress.step(title), ThreadPoolExecutor(2) as pool:
        changed = list(pool.map(_push_third_party_image, THIRD_PARTIES))
    return [name for name in changed if name]


def push_project_images(progress: Progress, version: Version) -> None:
    """Build the images of KTRDR, and push them to the registry."""
    repositories = (BACKEND_REPOSITORY, NFS_REPOSITORY)
    if version.is_clean and all(registries.has_image(name, version.tag) for name in repositories):
        return
    title = f"build and push the images of KTRDR, {version.tag}"
    with progress.step(title), ThreadPoolExecutor(2) as pool:
        nfs = pool.submit(_push_nfs_image, version)
        _push_backend_image(version)
        nfs.result()


def stand_in_image(service: str) -> str:
    """Return the lab's name of the replacement of a third-party image."""
    return f"ktrdr-lab/{service}"


def _push_third_party_image(party: ThirdParty) -> str | None:
    context = IMAGES / party.service
    if party.service == "jaeger":
        context = _fresh_context("jaeger")
        shutil.copytree(IMAGES / "jaeger", context, dirs_exist_ok=True)
        for wheel in download_wheels(
            "grpcio", "opentelemetry_proto", "protobuf", "typing_extensions"
        ):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(context / "libraries")
    image = stand_in_image(party.service)
    build_image(image, context, labels={STANDIN_LABEL: party.replacement})
    name = third_party_images()[party.service]
    return name if registries.push_to_mirror(image, name) else None


def _push_backend_image(version: Version) -> None:
    build_image(
        _BACKEND_IMAGE,
        ROOT,
        dockerfile=ROOT / "deploy/Dockerfile",
        arguments={"PYTHON_BASE": PYTHON_IMAGE, **_version_arguments(version)},
        fingerprint=_hash_sources(*_BACKEND_SOURCES, *_BACKEND_FILES, "requirements/build.txt"),
    )
    registries.push_image(_BACKEND_IMAGE, BACKEND_REPOSITORY, version.tag)


def _push_nfs_image(version: Version) -> None:
    build_image(
        _NFS_IMAGE,
        ROOT,
        dockerfile=ROOT / "deploy/nfs-server/Dockerfile",
        arguments={"DEBIAN_BASE": BASE_IMAGE, **_version_arguments(version)},
        fingerprint=_hash_sources("deploy/nfs-server"),
    )
    registries.push_image(_NFS_IMAGE, NFS_REPOSITORY, version.tag)


def _version_arguments(version: Version) -> dict[str, str]:
    return {"GIT_COMMIT": version.commit, "VERSION": version.tag}


def _hash_sources(*names: str) -> str:
    return hash_content(*(ROOT / name for name in names))


def _fresh_context(name: str) -> Path:
    context = _CONTEXTS / name
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir(parents=True)
    return context
