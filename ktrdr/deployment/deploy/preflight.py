"""Checks of a host before a deploy changes it; all problems are reported together."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from datetime import datetime
from typing import Final

from ktrdr.deployment.deploy import capacity, ports
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.hosts import networks
from ktrdr.deployment.hosts.history import RECORDS, last_good, missing_way_back, parse_history
from ktrdr.deployment.hosts.problems import CheckResult, Problem
from ktrdr.deployment.hosts.queries import workdir_error

# First version of Compose that reads a registry login from DOCKER_AUTH_CONFIG.
MINIMUM_COMPOSE: Final = (2, 38, 0)
_KIB_PER_MIB: Final = 1024
_KIB_PER_GIB: Final = 1024**2
_INSTALL: Final = "then install Docker Engine, for example with `ktrdr host prepare`."
DOCKER_KINDS: Final = {
    "snap": Problem(
        "Docker is installed as a snap, which cannot read the work directory",
        f"Run `snap disable docker` on the host, {_INSTALL}",
    ),
    "rootless": Problem(
        "Docker runs rootless, which cannot publish ports with the addresses of their clients",
        f"Run `systemctl --user disable --now docker` as its user on the host, {_INSTALL}",
    ),
    "podman": Problem(
        "the program docker is Podman, which lacks what deploys use",
        f"Run `apt-get remove podman-docker` on the host, {_INSTALL}",
    ),
}
_DOCKER_STATES: Final = {
    "missing": Problem("Docker is not installed", "Install Docker Engine with the Compose plugin."),
    "down": Problem(
        "the Docker daemon is not running", "Start it with `systemctl start docker` on the host."
    ),
    "waiting": Problem(
        "Docker does not respond",
        "See what it waits for with `systemctl list-jobs` on the host: after `ktrdr host "
        "prepare` it starts when the shared directory is mounted.",
    ),
}
# Names of the hosts of a command, by project and identity.
Names = MutableMapping[tuple[str, str], str]
# Exit code of timeout(1).
_TIMED_OUT: Final = "124"
_NOT_PERMITTED: Final = "Operation not permitted"


def parse_facts(output: str) -> dict[str, str]:
    """Parse the ``NAME=VALUE`` lines that ``check.sh`` prints about a host."""
    pairs = (line.partition("=") for line in output.splitlines() if "=" in line)
    return {name: value.strip() for name, _, value in pairs}


def check_host(
    plan: Plan, facts: Mapping[str, str], *, now: datetime, names: Names | None = None
) -> Iterator[CheckResult]:
    """Yield the result of each check of a host, which adds its name to those of the same command.

    A check is left out if its facts are missing, such as that of the ports.
    """
    workdir, shared = plan.host.workdir, plan.config.shared_directory
    docker = facts.get("docker", "missing")
    # Without a distribution's suffix.
    version = docker.partition("+")[0] if docker[:1].isdigit() else ""
    yield CheckResult("Docker", version, tuple(_check_docker(facts)))
    if warning := facts.get("docker_warning"):
        owner = f"`chown {facts.get('user', 'USER')}` it"
        note = f"Docker ignores its configuration ({warning}): correct the file, or {owner}"
        yield CheckResult("Docker's configuration", note=note)
    if docker != "missing":
        compose = facts.get("compose", "")
        yield CheckResult("Compose", compose.lstrip("v"), tuple(_check_compose(compose)))
    yield CheckResult("work directory", workdir, tuple(_check_workdir(facts, workdir)))
    # Only worker nodes differ in what they are given.
    has_capacity = all(facts.get(name, "").isdecimal() for name in ("memory_kb", "processors"))
    if plan.host.node and has_capacity:
        yield capacity.check_capacity(plan, facts)
    yield _check_disk(facts, plan)
    yield CheckResult("shared directory", shared, _check_share(facts, plan))
    if "handles" in facts:
        yield _check_file_server(facts, plan)
    yield _check_clock(plan, facts, now)
    yield from _check_stack(plan, facts, {} if names is None else names)
    if "memory" in facts:
        yield CheckResult("memory", facts["memory"], tuple(_check_memory(facts, plan)))
    if known := [name for name in plan.config.peers if f"resolves {name}" in facts]:
        yield _check_names(known, facts)
    if "recovery" in facts:
        note = (
            "nothing goes on with a deploy after a restart of the host in the middle of it: run "
            f"`ktrdr host prepare {plan.host.name}`"
        )
        yield CheckResult("recovery", note=note)
    if "listening" in facts:
        yield CheckResult("ports", "free", tuple(_check_ports(plan, facts)))
    if "routes" in facts:
        yield CheckResult("networks", problems=tuple(_check_networks(plan, facts)))


def _check_docker(facts: Mapping[str, str]) -> Iterator[Problem]:
    kind, state = facts.get("docker_kind", ""), facts.get("docker", "missing")
    if problem := DOCKER_KINDS.get(kind) or _DOCKER_STATES.get(state):
        yield problem
    elif state.partition(" ")[0] == "error":
        reason = state.partition(" ")[2].rstrip(".")
        yield Problem(
            f"Docker does not answer{reason and f': {reason}'}",
            "Run `docker info` on the host, and correct what it complains about.",
        )
    elif state == "forbidden":
        user = facts.get("user", "the user")
        yield Problem(
            f"{user} has no permission to use Docker",
            f"Add {user} to the group docker with `usermod -aG docker {user}`.",
        )


def is_older_compose(version: str) -> bool:
    """Return whether a version of Compose is older than deploys need, or missing."""
    numbers = re.match(r"v?(\d+)\.(\d+)\.(\d+)", version)
    return not numbers or tuple(map(int, numbers.groups())) < MINIMUM_COMPOSE


def _check_compose(version: str) -> Iterator[Problem]:
    wanted = ".".join(map(str, MINIMUM_COMPOSE))
    if is_older_compose(version):
        older = f"Docker Compose {version} is older than {wanted}"
        yield Problem(
            older if version else "Docker Compose is not installed",
            f"Install the Compose plugin, version {wanted} or newer, on the host.",
        )


def _check_workdir(facts: Mapping[str, str], workdir: str) -> Iterator[Problem]:
    state = facts.get("workdir")
    if state == "not-a-directory":
        yield Problem(
            f"the work directory {workdir} cannot be created, because a file is in its place",
            "Remove that file, or choose another workdir in the inventory.",
        )
    if state == "not-writable":
        user = facts.get("user", "the user")
        yield Problem(
            f"{user} has no permission to write to the work directory {workdir}",
            f"Run `install -d -o {user} {workdir}` as root on the host.",
        )


def _check_disk(facts: Mapping[str, str], plan: Plan) -> CheckResult:
    directories = {
        "docker_free_kb": "Docker's directory",
        "image_store_free_kb": "containerd's directory",
        "workdir_free_kb": "the work directory",
    }
    free = {name: int(facts[fact]) for fact, name in directories.items() if facts.get(fact)}
    needed = plan.product.minimum_free_mb
    problems = tuple(
        Problem(
            f"the disk of {name} has too little free space: {kib // _KIB_PER_MIB} MiB free, "
            f"{needed} needed",
            f"Free space on the host, for example with `ktrdr deploy prune {plan.host.name}`.",
        )
        for name, kib in free.items()
        if kib // _KIB_PER_MIB < needed
    )
    least = min(free.values(), default=0)
    return CheckResult("disk", f"{least / _KIB_PER_GIB:.0f} GiB free", problems)


def _check_share(facts: Mapping[str, str], plan: Plan) -> tuple[Problem, ...]:
    directory, state = plan.config.shared_directory, facts.get("shared", "")
    uid = owner = plan.config.container_uid
    mount = f"Mount the core's NFS export there: `mount {directory}`."
    server = "the core host"
    if plan.config.is_share_external:
        mount = "Mount it there before Docker starts, as docs/storage.md describes."
        owner, server = int(facts.get("owner", uid)), "the Proxmox host or NAS"
    make = f"Run `install -d -o {uid} -g {uid} {directory}` as root there."
    problems = {
        "missing": Problem(
            f"the shared directory {directory} is missing",
            mount if plan.config.is_share_mounted else make,
        ),
        "not-mounted": Problem(
            f"the shared directory {directory} is not mounted: it is on the host's own disk", mount
        ),
        "stale": Problem(
            f"the shared directory {directory} does not respond",
            f"Check that {server} serves it, then mount the directory again.",
        ),
        "not-writable": Problem(
            f"the containers' user ({uid}) cannot write to the shared directory {directory}",
            f"Run `chown {owner}:{owner}` on it as root on {server}, and check that it is not "
            "mounted read-only.",
        ),
    }
    return (problems[state],) if state in problems else ()


def _check_file_server(facts: Mapping[str, str], plan: Plan) -> CheckResult:
    """Check that a service can open files by their handles, as an NFS server must."""
    answer, uid = facts["handles"], str(plan.config.container_uid)
    if answer == "unknown":
        note = "not checked whether one can run here, which needs root and perl"
        return CheckResult("NFS server", note=note)
    reason = "in unprivileged containers" if facts.get("owner", uid) != uid else "by LXC's default"
    problem = Problem(
        "no NFS server can run here, because open_by_handle_at is refused "
        f"({answer}{f', as {reason}' if answer == _NOT_PERMITTED else ''})",
        "Set `core.nfs: external` in the inventory, and let the Proxmox host or a NAS serve "
        f"{plan.config.shared_directory} (docs/storage.md).",
    )
    return CheckResult("NFS server", "can run", () if answer == "opened" else (problem,))


def _check_memory(facts: Mapping[str, str], plan: Plan) -> Iterator[Problem]:
    """Check that secrets stay in memory, if they are delivered as files there."""
    root = plan.host.secrets_root
    kind, swap = facts.get("memory", "unknown"), facts.get("swap", "none")
    if kind not in ("tmpfs", "ramfs"):
        yield Problem(
            f"{root} is on a disk ({kind}), so secrets would be stored on it",
            f"Mount a tmpfs there: `mount -t tmpfs -o mode=755 ktrdr {root}`.",
        )
    elif kind == "tmpfs" and swap != "none":
        name = swap if swap.startswith("/") else "the swap of this container's host"
        yield Problem(
            f"memory, including secrets, may be swapped out to {name}, which may not be encrypted",
            _on_container_host(facts, "pct set CTID --swap 0`, with the CTID of `pct list")
            or f"Turn swap off (`swapoff -a`), encrypt it, or `mount -t ramfs ramfs {root}`, "
            "which is never swapped out.",
        )


def _check_names(names: Sequence[str], facts: Mapping[str, str]) -> CheckResult:
    """Check the names of other hosts, which containers ask DNS servers for, and no other source."""
    unknown, missing = (
        [name for name in names if facts[f"resolves {name}"] == answer]
        for answer in ("unknown", "no")
    )
    note = f"containers may not be able to resolve {', '.join(unknown)}" if unknown else ""
    text = "containers cannot resolve {}: no DNS server knows it, only /etc/hosts or mDNS here"
    hint = "Add the name to your DNS server, or write its address as `host` in the inventory, and "
    hint += "the name as `ssh_host`."
    problems = tuple(Problem(text.format(name), hint) for name in missing)
    return CheckResult("names", "known to DNS", problems, note)


def _on_container_host(facts: Mapping[str, str], command: str) -> str:
    """Return the remedy for a container, in which the command does not work; otherwise nothing."""
    if not (facts.get("container") or facts.get("swap") == "virtual"):
        return ""
    return f"This host is a container: run `{command}` on its own host, such as Proxmox."


def _check_clock(plan: Plan, facts: Mapping[str, str], now: datetime) -> CheckResult:
    skew = int(facts.get("clock", now.timestamp())) - now.timestamp()
    direction = "ahead of" if skew > 0 else "behind"
    problem = Problem(
        f"its clock is {abs(skew):.0f} s {direction} this machine's, so tokens would be rejected",
        _on_container_host(facts, "timedatectl set-ntp true")
        or "Synchronise both with a time server (`timedatectl set-ntp true`).",
    )
    is_off = abs(skew) > plan.config.max_clock_skew_s
    return CheckResult("clock", f"{abs(skew):.0f} s off", (problem,) if is_off else ())


def _check_stack(plan: Plan, facts: Mapping[str, str], names: Names) -> Iterator[CheckResult]:
    """Check that the host has one name, the backend answers, and what a rollback needs is there."""
    if identity := facts.get("identity"):
        other = names.setdefault((plan.host.project, identity), plan.host.name)
        problem = Problem(
            f"{other} and {plan.host.name} are one host under two names, with one stack",
            "Remove one of the names from the inventory.",
        )
        yield CheckResult("name", problems=() if other == plan.host.name else (problem,))
    if facts.get("copy") == "ahead":
        directory = f"{plan.host.workdir}/{RECORDS}"
        yield CheckResult(
            "history",
            note=f"the history of {plan.host.name} lacks releases of its copy {plan.history_copy}; "
            f"look at it, then restore it on {plan.host.address} with `cd {directory} && cat "
            f"{plan.history_copy} history.jsonl >restored; mv restored history.jsonl`",
        )
    if "api" in facts:
        yield _check_api(plan, facts["api"])
    if "projects" in facts:
        yield _check_records(plan, facts)


def _check_api(plan: Plan, answer: str) -> CheckResult:
    code, _, reason = answer.removeprefix("- ").partition(" ")
    if answer.startswith("-"):
        reason = reason.rpartition(": ")[2] or f"code {code}"
        answer = "no response" if code == _TIMED_OUT else reason
    elif not answer.startswith("5"):
        return CheckResult("backend")
    problem = Problem(
        f"the backend does not answer at {plan.config.required_url} ({answer}), so workers could "
        "not register",
        "Deploy the core first with `ktrdr deploy core all`, or all hosts in order with `ktrdr "
        "deploy all`. --skip-validation skips this check.",
    )
    return CheckResult("backend", problems=(problem,))


def _check_records(plan: Plan, facts: Mapping[str, str]) -> CheckResult:
    """Check that the containers belong to the work directory, and what a rollback needs."""
    pairs = (pair.partition("=") for pair in facts["projects"].split("|"))
    workdirs = [directory for project, _, directory in pairs if project == plan.host.project]
    error = workdir_error(plan.host, workdirs)
    if error or not workdirs:
        problems = (Problem.from_error(error),) if error else ()
        return CheckResult("history", problems=problems)
    history = parse_history(facts.get("history", "").split("\t"))
    reason = missing_way_back(history, plan.service, facts.get("kept", "").split())
    good, present = last_good(history, plan.service), facts.get("digests", "").split()
    gone = [name for name in good.images if good.had_other_image(name, present)] if good else []
    if gone and not reason:
        reason = f"{gone[0]} of the last release is gone, unless the registry has it"
    return CheckResult("rollback", "possible", note=way_back_warning(plan, reason))


def way_back_warning(plan: Plan, reason: str) -> str:
    """Return the warning for a host that cannot go back, for a reason; empty without one."""
    name = plan.host.name if plan.host.node else f"{plan.host.name} all"
    return reason and (
        f"there is no way back on {plan.host.name} if a new release fails: {reason}; to keep what "
        f"runs now, deploy its tag first: `ktrdr deploy {name} --tag TAG`"
    )


def _check_ports(plan: Plan, facts: Mapping[str, str]) -> Iterator[Problem]:
    for port, owner in ports.find_conflicts(plan, facts):
        yield Problem(
            f"the port {port} is in use by {owner}",
            "Find its owner with `ss -ltnp` on the host, or change the port in the inventory.",
        )


def _check_networks(plan: Plan, facts: Mapping[str, str]) -> Iterator[Problem]:
    found = networks.parse_docker_networks(facts.get("networks", ""))
    for network, route in networks.find_collisions(found, networks.parse_routes(facts["routes"])):
        subnets = ", ".join(map(str, network.subnets))
        name, commands = plan.host.name, ""
        if network.name.startswith(f"{plan.host.project}_"):
            target = name if plan.host.node else f"{name} all"
            commands = f": `ktrdr deploy down {name}`, `ktrdr deploy {target}`"
        yield Problem(
            f"Docker's network {network.name} ({subnets}) has addresses that the host reaches "
            f"through {route.interface} ({route.network})",
            f"Choose other addresses with `ktrdr host prepare {name}`, then recreate the network"
            f"{commands}.",
        )
