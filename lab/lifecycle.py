"""Start, stop and status of the whole lab."""

from __future__ import annotations

import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab import (
    certificates,
    containers,
    engine,
    images,
    network,
    nodes,
    registries,
    ssh_keys,
    trees,
    vault,
    wheels,
)
from lab.config import (
    API_PORT,
    BARE_NODE,
    GRAFANA_PORT,
    JAEGER_PORT,
    NODES,
    PROMETHEUS_PORT,
    ROOT,
    STATE,
    core_url,
)
from lab.engine import docker
from lab.images import Version
from lab.progress import Progress
from lab.shell import run

ENVIRONMENT: Final = STATE / "env"


def up(progress: Progress) -> None:
    """Start the lab, or the missing parts of it; on a running lab this takes seconds.

    Raises:
        LabError: A part of the lab cannot be started.
    """
    engine.install_packages()
    STATE.mkdir(mode=0o700, exist_ok=True)
    engine.start(progress)
    vault.ensure()
    ssh_keys.ensure()
    trees.ensure_bare(progress)
    version = images.checked_out_version()
    # Steps that depend on each other run in order, the others in parallel.
    with ThreadPoolExecutor(2) as pool:
        data = pool.submit(wheels.ensure_market_data)
        certificates.ensure()
        network.ensure()
        hosts = pool.submit(_start_hosts, progress)
        images.build_base_images(progress)
        registries.ensure()
        data.result()
        changed = images.push_third_party_images(progress)
        images.push_project_images(progress, version)
        hosts.result()
    nodes.pull_changed_images(changed)
    _write_environment(version)
    progress.write(f"the lab is up. Run `. {STATE.name}/env` to let ktrdr commands address it")


def down(progress: Progress, *, purge: bool) -> None:
    """Stop the lab. Its data stays, unless ``purge`` is set."""
    if not engine.is_running():
        progress.write("the Docker Engine is not running, so the lab is not running either")
        return
    with progress.step("stop hosts and registries"), ThreadPoolExecutor() as pool:
        stopped = pool.map(nodes.stop, (*NODES, BARE_NODE))
        list(pool.map(_stop_container, (registries.GHCR, registries.MIRROR)))
        list(stopped)
    network.remove()
    if purge:
        nodes.remove_data()
        volumes = (registries.GHCR, registries.MIRROR)
        run(docker(), "volume", "rm", "--force", *volumes, check=False)
        progress.write("removed all data of the hosts")
    ENVIRONMENT.unlink(missing_ok=True)
    engine.stop()
    progress.write("the lab is down")


@dataclass(frozen=True, slots=True)
class Component:
    """A part of the lab, with its state."""

    name: str
    address: str
    is_healthy: bool


def status() -> list[Component]:
    """Return the components of the lab."""
    if not engine.is_running():
        return [Component("Docker Engine", "this machine", is_healthy=False)]
    hosts = [
        Component(
            f"host {node.key}",
            f"{node.names[0]} ({node.address})",
            nodes.is_healthy(node),
        )
        for node in NODES
    ]
    registry = Component(
        "registry", "ghcr.io, with a login", containers.is_running(registries.GHCR)
    )
    mirror = Component("registry", "mirror of Docker Hub", containers.is_running(registries.MIRROR))
    return [Component("Docker Engine", "this machine", is_healthy=True), registry, mirror, *hosts]


def _start_hosts(progress: Progress) -> None:
    with progress.step("start three hosts with SSH and Docker"):
        nodes.ensure_running(progress)


def _stop_container(name: str) -> None:
    run(docker(), "stop", name, check=False, timeout=120)
    containers.remove(name)


def _write_environment(version: Version) -> None:
    """Write the shell file that makes ktrdr commands address the lab."""
    variables: dict[str, str | Path] = {
        "KTRDR_DEPLOY_TAG": version.tag,
        "KTRDR_SSH_CONFIG": ssh_keys.CONFIG,
        "KTRDR_INVENTORY": ROOT / "deploy/inventory.yml",
        # This machine serves the shared directory, as a Proxmox host does.
        "KTRDR_INVENTORY_CORE_NFS": "external",
        "KTRDR_API_URL": core_url(API_PORT),
        "KTRDR_CONFIG": STATE / "ktrdr.toml",
        "KTRDR_LAB_GRAFANA_URL": core_url(GRAFANA_PORT),
        "KTRDR_LAB_JAEGER_URL": core_url(JAEGER_PORT),
        "KTRDR_LAB_PROMETHEUS_URL": core_url(PROMETHEUS_PORT),
    }
    lines = ["# Written by `make lab-up`: makes ktrdr commands address the lab."]
    lines += [f"export {name}={shlex.quote(str(value))}" for name, value in variables.items()]
    programs = f"{shlex.quote(str(vault.PROGRAMS))}:{shlex.quote(str(ROOT / '.venv/bin'))}"
    lines.append(f'case "$PATH" in {programs}:*) ;; *) export PATH={programs}:"$PATH" ;; esac')
    ENVIRONMENT.write_text("\n".join(lines) + "\n")
