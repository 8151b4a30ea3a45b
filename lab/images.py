"""The images of the lab: hosts, registry, stand-ins, and the project's own."""

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
from lab.build import STANDIN_LABEL, build, digest_of
from lab.place import (
    BACKEND_REPOSITORY,
    BASE_IMAGE,
    IMAGES,
    NFS_REPOSITORY,
    NODE_IMAGE,
    PYTHON_IMAGE,
    REGISTRY_IMAGE,
    ROOT,
    STATE,
)
from lab.report import Report
from lab.shell import run
from lab.wheels import wheels

_COMPOSE_FILE: Final = ROOT / "docker-compose.core.yml"
_CONTEXTS: Final = STATE / "build"
_BACKEND_IMAGE: Final = "ktrdr-lab/ktrdr-backend"
_NFS_IMAGE: Final = "ktrdr-lab/ktrdr-nfs-server"
# What the image of the project's own is made of; `.dockerignore` says the same to the build.
_BACKEND_PARTS: Final = ("deploy/Dockerfile", "deploy/slim.py", "deploy/warm.py", "ktrdr")
_BACKEND_FILES: Final = ("deploy/healthcheck.py", "requirements/runtime.txt", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class ThirdParty:
    """A program that the compose files name by its image, and what takes its place here.

    Attributes:
        service: The service that runs it.
        stands_in: What it is called in the lab's output: the real program of another version, or a
            stand-in.
    """

    service: str
    stands_in: str


THIRD_PARTIES: Final = (
    ThirdParty("db", "PostgreSQL 15 of Debian, without TimescaleDB"),
    ThirdParty("prometheus", "Prometheus 2 of Debian"),
    ThirdParty("grafana", "a stand-in"),
    ThirdParty("jaeger", "a stand-in: a real OTLP receiver"),
)


@dataclass(frozen=True, slots=True)
class Version:
    """What is checked out.

    Attributes:
        commit: The full id of the commit.
        tag: The tag that images of it have in the lab.
        is_clean: Whether nothing differs from the commit, so that the tag means one image for ever.
    """

    commit: str
    tag: str
    is_clean: bool


def version() -> Version:
    """The version that is checked out; changes that are not committed show in its tag."""
    commit = run("git", "rev-parse", "HEAD", check=False).stdout.strip()
    if not commit:
        return Version("unknown", "dev", is_clean=False)
    changes = run("git", "status", "--porcelain", check=False).stdout.strip()
    suffix = "-dirty" if changes else ""
    return Version(commit, f"sha-{commit[:7]}{suffix}", is_clean=not changes)


def names() -> Mapping[str, str]:
    """The image of each third party's service, as the compose file names it."""
    services = yaml.safe_load(_COMPOSE_FILE.read_text())["services"]
    return {party.service: str(services[party.service]["image"]) for party in THIRD_PARTIES}


def build_foundation(report: Report) -> None:
    """What registries and hosts run, and what the other images start from."""
    with report.step("images of the hosts and the registry"), ThreadPoolExecutor(2) as pool:
        node = pool.submit(_build_node)
        build(REGISTRY_IMAGE, IMAGES / "registry")
        build(PYTHON_IMAGE, IMAGES / "python")
        node.result()


def fill_mirror(report: Report) -> list[str]:
    """Builds what stands in for the third parties' images, and puts it into the mirror.

    Returns:
        The names whose image is another one than before.
    """
    title = "images of the database, Prometheus, Grafana and Jaeger"
    with report.step(title), ThreadPoolExecutor(2) as pool:
        filled = list(pool.map(_fill, THIRD_PARTIES))
    return [name for name in filled if name]


def fill_registry(report: Report, wanted: Version) -> None:
    """Builds the project's own images, and puts them into the registry with the login."""
    there = registries.has(BACKEND_REPOSITORY, wanted.tag)
    if wanted.is_clean and there and registries.has(NFS_REPOSITORY, wanted.tag):
        return
    title = f"images of KTRDR, {wanted.tag}, into the registry"
    with report.step(title), ThreadPoolExecutor(2) as pool:
        nfs = pool.submit(_release_nfs, wanted)
        _release_backend(wanted)
        nfs.result()


def stand_in(service: str) -> str:
    """The lab's own name of what stands in for a third party's image."""
    return f"ktrdr-lab/{service}"


def _build_node() -> None:
    context = _fresh_context("node")
    shutil.copytree(IMAGES / "node", context, dirs_exist_ok=True)
    shutil.copy(ROOT / ".venv/bin/docker-compose", context / "docker-compose")
    build(NODE_IMAGE, context)


def _fill(party: ThirdParty) -> str | None:
    context = IMAGES / party.service
    if party.service == "jaeger":
        context = _fresh_context("jaeger")
        shutil.copytree(IMAGES / "jaeger", context, dirs_exist_ok=True)
        for wheel in wheels("grpcio", "opentelemetry_proto", "protobuf", "typing_extensions"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(context / "libraries")
    build(stand_in(party.service), context, labels={STANDIN_LABEL: party.stands_in})
    name = names()[party.service]
    return name if registries.push_to_mirror(stand_in(party.service), name) else None


def _release_backend(wanted: Version) -> None:
    build(
        _BACKEND_IMAGE,
        ROOT,
        dockerfile=ROOT / "deploy/Dockerfile",
        arguments={"PYTHON_BASE": PYTHON_IMAGE, **_labels(wanted)},
        fingerprint=_parts(*_BACKEND_PARTS, *_BACKEND_FILES, "requirements/build.txt"),
    )
    registries.push(_BACKEND_IMAGE, BACKEND_REPOSITORY, wanted.tag)


def _release_nfs(wanted: Version) -> None:
    build(
        _NFS_IMAGE,
        ROOT,
        dockerfile=ROOT / "deploy/nfs-server/Dockerfile",
        arguments={"DEBIAN_BASE": BASE_IMAGE, **_labels(wanted)},
        fingerprint=_parts("deploy/nfs-server"),
    )
    registries.push(_NFS_IMAGE, NFS_REPOSITORY, wanted.tag)


def _labels(wanted: Version) -> dict[str, str]:
    return {"GIT_COMMIT": wanted.commit, "VERSION": wanted.tag}


def _parts(*names: str) -> str:
    return digest_of(*(ROOT / name for name in names))


def _fresh_context(name: str) -> Path:
    context = _CONTEXTS / name
    shutil.rmtree(context, ignore_errors=True)
    context.mkdir(parents=True)
    return context
