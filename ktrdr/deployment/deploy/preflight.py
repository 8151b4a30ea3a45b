"""Judges what a host says of itself before anything is changed on it: all complaints at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from ktrdr.deployment.deploy import ports
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.homelab.secret_steps import CONTAINER_UID, SECRETS_ROOT
from ktrdr.deployment.hosts.problems import Finding, Point, findings_of
from ktrdr.errors import HostNotReady
from ktrdr.tokens import CLOCK_LEEWAY

# The first Compose that logs in to a registry with DOCKER_AUTH_CONFIG, so that no token is written.
MINIMUM_COMPOSE: Final = (2, 38, 0)
_KIB_PER_MIB: Final = 1024
_KIB_PER_GIB: Final = 1024**2


def read_facts(output: str) -> dict[str, str]:
    """The ``NAME=VALUE`` lines of ``check.sh``."""
    pairs = (line.partition("=") for line in output.splitlines() if "=" in line)
    return {name: value.strip() for name, _, value in pairs}


def check(plan: Plan, facts: Mapping[str, str], *, now: datetime) -> None:
    """Refuses a host that cannot run the stack.

    Args:
        plan: What is to be deployed.
        facts: What the host says.
        now: The time here, when it said so.

    Raises:
        HostNotReady: Names everything that is wrong, and what to do about each.
    """
    found = list(findings(plan, facts, now=now))
    if found:
        complaints = "; ".join(finding.complaint for finding in found)
        remedies = " ".join(dict.fromkeys(finding.remedy for finding in found))
        raise HostNotReady(f"{plan.site.host} is not ready: {complaints}", hint=remedies)


def findings(plan: Plan, facts: Mapping[str, str], *, now: datetime) -> Iterator[Finding]:
    """Everything that is wrong with a host."""
    return findings_of(points(plan, facts, now=now))


def points(plan: Plan, facts: Mapping[str, str], *, now: datetime) -> Iterator[Point]:
    """All that a host was asked about itself, whether well or not.

    What it was not asked, such as its ports, is left out.
    """
    workdir, shared = plan.site.workdir, plan.site.shared_directory
    yield Point("Docker", _version(facts.get("docker", "")), tuple(_docker(facts)))
    if facts.get("docker", "missing") != "missing":
        compose = facts.get("compose", "")
        yield Point("Compose", compose.lstrip("v"), tuple(_compose(compose)))
    yield Point("programs", "all there", tuple(_programs(facts)))
    yield Point("work directory", workdir, tuple(_workdir(facts, workdir)))
    yield Point("disk", _free(facts), tuple(_disk(facts, plan)))
    yield Point("shared directory", shared, tuple(_shared(facts, plan)))
    yield Point("clock", _skew(facts, now), tuple(_clock(facts, now)))
    if "memory" in facts:
        yield Point("memory", facts["memory"], tuple(_memory(facts)))
    if "listening" in facts:
        yield Point("ports", "free", tuple(_ports(plan, facts)))


def _docker(facts: Mapping[str, str]) -> Iterator[Finding]:
    state = facts.get("docker", "missing")
    if state == "missing":
        yield Finding("Docker is not installed", "Install Docker Engine with the Compose plugin.")
    if state == "down":
        yield Finding(
            "the Docker daemon does not run", "Start it with `systemctl start docker` on the host."
        )
    if state == "forbidden":
        user = facts.get("user", "the user")
        yield Finding(
            f"{user} may not use Docker",
            f"Add {user} to the group docker with `usermod -aG docker {user}`.",
        )


def _compose(version: str) -> Iterator[Finding]:
    wanted = ".".join(map(str, MINIMUM_COMPOSE))
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if not numbers:
        yield Finding(
            "Docker Compose is not installed",
            f"Install the Compose plugin, version {wanted} or newer, on the host.",
        )
    elif tuple(map(int, numbers.groups())) < MINIMUM_COMPOSE:
        yield Finding(
            f"Docker Compose {version} is older than {wanted}",
            f"Install the Compose plugin, version {wanted} or newer, on the host.",
        )


def _programs(facts: Mapping[str, str]) -> Iterator[Finding]:
    lacks = facts.get("lacks", "").split()
    if lacks:
        yield Finding(
            f"it has no {', no '.join(lacks)}",
            "Install them on the host; they are in Debian's util-linux, diffutils, mawk, tar and "
            "coreutils.",
        )


def _workdir(facts: Mapping[str, str], workdir: str) -> Iterator[Finding]:
    state = facts.get("workdir")
    if state == "not-a-directory":
        yield Finding(
            f"the work directory {workdir} cannot be made, because a file is in its way",
            "Remove that file, or choose another workdir in the inventory.",
        )
    if state == "not-writable":
        user = facts.get("user", "the user")
        yield Finding(
            f"{user} may not write to the work directory {workdir}",
            f"Run `install -d -o {user} {workdir}` as root on the host.",
        )


def _disk(facts: Mapping[str, str], plan: Plan) -> Iterator[Finding]:
    places = {"docker_free_kb": "Docker's directory", "workdir_free_kb": "the work directory"}
    for fact, place in places.items():
        text = facts.get(fact, "")
        if text.isdigit() and int(text) // _KIB_PER_MIB < plan.minimum_free_mb:
            yield Finding(
                f"the disk of {place} is full: {int(text) // _KIB_PER_MIB} MiB are free and "
                f"{plan.minimum_free_mb} needed",
                "Free space on the host, for example with `docker image prune --all`.",
            )


def _shared(facts: Mapping[str, str], plan: Plan) -> Iterator[Finding]:
    directory, state = plan.site.shared_directory, facts.get("shared")
    mount = f"Mount the core's NFS export there: `mount {directory}`."
    make = f"Run `install -d -o {CONTAINER_UID} -g {CONTAINER_UID} {directory}` as root there."
    if state == "missing":
        remedy = mount if plan.site.shared_is_mounted else make
        yield Finding(f"the shared directory {directory} is missing", remedy)
    if state == "not-mounted":
        yield Finding(
            f"the shared directory {directory} is not mounted, it is a part of the host's own disk",
            mount,
        )
    if state == "stale":
        yield Finding(
            f"the shared directory {directory} does not answer",
            "Check that the core host's NFS server runs, then mount the directory anew.",
        )
    if state == "not-writable":
        yield Finding(
            f"the containers' user ({CONTAINER_UID}) may not write to the shared directory "
            f"{directory}",
            f"Run `chown {CONTAINER_UID}:{CONTAINER_UID} {directory}` as root on the core host, "
            "and check that it is not mounted read-only.",
        )


def _memory(facts: Mapping[str, str]) -> Iterator[Finding]:
    """What keeps secrets from staying in memory, where they are delivered that way."""
    kind, swap = facts.get("memory", "unknown"), facts.get("swap", "none")
    if kind not in ("tmpfs", "ramfs"):
        yield Finding(
            f"{SECRETS_ROOT} is on a disk ({kind}), so that secrets would be, too",
            f"Mount memory there: `mount -t tmpfs -o mode=755 ktrdr {SECRETS_ROOT}`.",
        )
    elif kind == "tmpfs" and swap != "none":
        yield Finding(
            f"memory is swapped out to {swap}, which is not known to be encrypted, and secrets "
            "with it",
            f"Turn it off (`swapoff -a`), encrypt it, or `mount -t ramfs ramfs {SECRETS_ROOT}`, "
            "which is never swapped out.",
        )


def _clock(facts: Mapping[str, str], now: datetime) -> Iterator[Finding]:
    text = facts.get("clock", "")
    if not text.isdigit():
        return
    skew = int(text) - now.timestamp()
    if abs(skew) > CLOCK_LEEWAY.total_seconds():
        direction = "ahead of" if skew > 0 else "behind"
        yield Finding(
            f"its clock is {abs(skew):.0f} s {direction} this machine's, so that tokens would "
            "not be valid",
            "Let both follow a time server (`timedatectl set-ntp true`).",
        )


def _ports(plan: Plan, facts: Mapping[str, str]) -> Iterator[Finding]:
    for taken in ports.taken(plan, facts):
        yield Finding(
            f"the port {taken.port} is taken by {taken.by}",
            "Find who has it with `ss -ltnp` on the host, or change the port in the inventory.",
        )


def _version(text: str) -> str:
    """The version without what a distribution appends to it; empty where it is none."""
    return text.partition("+")[0] if text[:1].isdigit() else ""


def _free(facts: Mapping[str, str]) -> str:
    sizes = [facts.get(fact, "") for fact in ("docker_free_kb", "workdir_free_kb")]
    least = min((int(size) for size in sizes if size.isdigit()), default=0)
    return f"{least / _KIB_PER_GIB:.0f} GiB free"


def _skew(facts: Mapping[str, str], now: datetime) -> str:
    text = facts.get("clock", "")
    return f"{abs(int(text) - now.timestamp()):.0f} s off" if text.isdigit() else ""
