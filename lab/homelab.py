"""The story: the whole lab up, down, and what of it is there."""

from __future__ import annotations

import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab import build, containers, engine, images, keys, nodes, registries, vault, wheels
from lab.engine import docker
from lab.images import Version
from lab.place import (
    API_PORT,
    GRAFANA_PORT,
    JAEGER_PORT,
    NETWORK,
    NODES,
    PROMETHEUS_PORT,
    ROOT,
    SHARED_VOLUME,
    STATE,
    url,
)
from lab.report import Report
from lab.shell import run

ENVIRONMENT: Final = STATE / "env"


def up(report: Report) -> None:
    """Brings the lab up, or what of it is missing; on a running lab that takes seconds.

    Raises:
        LabError: Something of it cannot be had.
    """
    engine.install_packages()
    STATE.mkdir(mode=0o700, exist_ok=True)
    engine.start(report)
    vault.ensure()
    keys.ensure()
    build.ensure_base(report)
    wanted = images.version()
    # One thing after the other where one needs the other, and the rest at its side.
    with ThreadPoolExecutor(2) as pool:
        data = pool.submit(wheels.ensure_market_data)
        images.build_foundation(report)
        containers.ensure_network()
        registries.ensure()
        hosts = pool.submit(_bring_up_hosts, report)
        data.result()
        changed = images.fill_mirror(report)
        images.fill_registry(report, wanted)
        hosts.result()
    nodes.renew(changed)
    _write_environment(wanted)
    report.say("the lab is up; `. .lab/env` makes plain `ktrdr deploy …` address it")


def down(report: Report, *, purge: bool) -> None:
    """Takes the lab down; its data stays for the next time unless it is to be purged."""
    if not engine.is_running():
        report.say("no Docker Engine runs, so nothing of the lab does")
        return
    names = [*(node.container for node in NODES), registries.GHCR, registries.MIRROR]
    with report.step("stopping hosts and registries"), ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(_stop, names))
    run(docker(), "network", "rm", NETWORK, check=False)
    if purge:
        kept = [volume for node in NODES for volume in nodes.volumes(node)]
        kept += [SHARED_VOLUME, registries.GHCR, registries.MIRROR]
        run(docker(), "volume", "rm", "--force", *kept, check=False)
        report.say("all data of the hosts is gone")
    ENVIRONMENT.unlink(missing_ok=True)
    engine.stop()
    report.say("the lab is down")


@dataclass(frozen=True, slots=True)
class Line:
    """One part of the lab: what it is, where, and whether it is well."""

    what: str
    where: str
    well: bool


def status() -> list[Line]:
    """What of the lab is up."""
    if not engine.is_running():
        return [Line("Docker Engine", "this machine", well=False)]
    hosts = [
        Line(
            f"host {node.key}",
            f"{node.names[0]} (ssh 127.0.0.1:{node.ssh_port})",
            nodes.is_well(node),
        )
        for node in NODES
    ]
    registry = Line("registry", "ghcr.io, with a login", containers.is_running(registries.GHCR))
    mirror = Line("registry", "mirror of Docker Hub", containers.is_running(registries.MIRROR))
    return [Line("Docker Engine", "this machine", well=True), registry, mirror, *hosts]


def _bring_up_hosts(report: Report) -> None:
    with report.step("three hosts with SSH and Docker"):
        nodes.ensure(report)


def _stop(name: str) -> None:
    run(docker(), "stop", name, check=False, timeout=120)
    containers.remove(name)


def _write_environment(wanted: Version) -> None:
    """A shell file: after sourcing it, plain commands address the lab."""
    variables: dict[str, str | Path] = {
        "KTRDR_DEPLOY_TAG": wanted.tag,
        "KTRDR_SSH_CONFIG": keys.CONFIG,
        "KTRDR_INVENTORY": ROOT / "deploy/inventory.yml",
        "KTRDR_API_URL": url(API_PORT),
        "KTRDR_CONFIG": STATE / "ktrdr.toml",
        "KTRDR_LAB_GRAFANA_URL": url(GRAFANA_PORT),
        "KTRDR_LAB_JAEGER_URL": url(JAEGER_PORT),
        "KTRDR_LAB_PROMETHEUS_URL": url(PROMETHEUS_PORT),
    }
    lines = [
        "# Written by `make lab-up`: makes plain ktrdr commands address the rehearsal homelab."
    ]
    lines += [f"export {name}={shlex.quote(str(value))}" for name, value in variables.items()]
    programs = f"{shlex.quote(str(vault.PROGRAMS))}:{shlex.quote(str(ROOT / '.venv/bin'))}"
    lines.append(f'case "$PATH" in {programs}:*) ;; *) export PATH={programs}:"$PATH" ;; esac')
    ENVIRONMENT.write_text("\n".join(lines) + "\n")
