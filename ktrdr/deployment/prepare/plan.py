"""Plan of a host's preparation: what is refused, and the script that brings the host there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from string import Template
from typing import Final, NamedTuple

from ktrdr.deployment.deploy.preflight import DOCKER_KINDS, MINIMUM_COMPOSE, is_older_compose
from ktrdr.deployment.hosts import networks
from ktrdr.deployment.hosts.networks import Route
from ktrdr.deployment.hosts.problems import Problem
from ktrdr.deployment.prepare import docker_config
from ktrdr.deployment.prepare.requirements import HostRequirements, PublishedPorts
from ktrdr.deployment.scripts.script import Script
from ktrdr.errors import HostNotReady

Facts = Mapping[str, str]
_REPOSITORY: Final = "https://download.docker.com/linux"
_KEY_SHA256: Final = "1500c1f56fa9e26b9b8f42452a553675796ade0807cdce11975eb98170b3a570"
_SOURCE: Final = """\
Types: deb
URIs: {url}
Suites: {codename}
Components: stable
Signed-By: /etc/apt/keyrings/docker.asc"""
_MANUALLY: Final = "Prepare it by hand: docs/deploying.md lists what a host needs."
_CONFIGURATION: Final = "the container's configuration (on Proxmox /etc/pve/lxc/ID.conf)"


class Preparation(NamedTuple):
    """Plan of a host's preparation.

    Attributes:
        system: Description of the host.
        notes: What the operator should know, one sentence each.
        arguments: Arguments of ``prepare.sh``; empty if nothing is to be done.
        lines: Its output: ``* CHANGE``, indented lines below it, and ``! NOTE``.
    """

    system: str
    notes: tuple[str, ...]
    arguments: tuple[str, ...]
    lines: Sequence[str] = ()

    @property
    def changes(self) -> list[str]:
        """Return the changes without details."""
        return [line[2:] for line in self.lines if line.startswith("* ")]


def facts_script(requirements: HostRequirements) -> Script:
    """Build the script that asks a host what its preparation depends on."""
    shared = requirements.shared_directory
    peers = dict.fromkeys(peer for _, each in requirements.published for peer in each)
    return Script(
        "scripts/prepare_facts.sh", (shared, mount_unit(shared), str(requirements.uid), *peers)
    )


def plan_undo(requirements: HostRequirements) -> Preparation:
    """Return the plan that undoes the firewall rules and the mount of the share."""
    unit = mount_unit(requirements.shared_directory)
    return Preparation("", (), ("--no-firewall", "--no-share", unit))


def make_preparation(requirements: HostRequirements, facts: Facts) -> Preparation:
    """Decide how to prepare a host.

    Args:
        requirements: Requirements of the product.
        facts: Output of `facts_script`; empty for a fresh Debian that was not asked.

    Raises:
        HostNotReady: The host cannot be prepared; the message names every problem.
    """
    if requirements.only_firewall and not facts.get("firewall"):
        return Preparation("", (), ())
    if facts and (problems := list(_problems(requirements, facts))):
        raise HostNotReady(
            f"{requirements.host.name} on {requirements.host.address} cannot be prepared: "
            + "; ".join(problem.message for problem in problems),
            hint=" ".join(dict.fromkeys(problem.hint for problem in problems)),
        )
    rules = tuple(rule for each in requirements.published for rule in _rules(each, facts))
    firewall = (
        ("--firewall", _read("firewall.nft", rules="\n        ".join(rules))) if rules else ()
    )
    if requirements.only_firewall:
        return Preparation("", (), firewall)
    kind = facts.get("container", "").replace("lxc", "LXC")
    privileges = "unprivileged" if _first_uid(facts) else "privileged"
    return Preparation(
        facts.get("os_name", "") + (f", {privileges} {kind} container" if kind else ""),
        tuple(_notes(requirements, facts)),
        tuple(_arguments(requirements, facts, firewall)),
    )


def _arguments(
    requirements: HostRequirements, facts: Facts, firewall: Sequence[str]
) -> Iterator[str]:
    shared, login = requirements.shared_directory, facts.get("login", "root")
    owner = "" if login == "root" else login
    mounts_share = _mounts_share(requirements, facts)
    packages = _docker_packages(facts, from_docker=requirements.from_docker)
    from_docker = bool(packages) and requirements.from_docker
    at_least = ("--at-least", packages[-1], ".".join(map(str, MINIMUM_COMPOSE))) if packages else ()
    if not from_docker:
        yield from at_least
    basic = (("ca-certificates", from_docker), ("nftables", firewall), ("nfs-common", mounts_share))
    if needed := " ".join(name for name, is_needed in basic if is_needed):
        yield from ("--packages", needed)
    yield from firewall
    if from_docker:
        if not facts.get("repository"):
            url = f"{_REPOSITORY}/{facts.get('os', 'debian')}"
            source = _SOURCE.format(url=url, codename=facts.get("codename", "trixie"))
            yield from ("--repository", url, _KEY_SHA256, source)
        yield from at_least
    options, routes = facts.get("dockerd_options", "").split(), list(_foreign_routes(facts))
    config = docker_config.complete_config(facts.get("daemon_json"), options, routes)
    if config.added:
        yield from ("--docker-config", *config)
    if packages:
        yield from ("--packages", " ".join(packages))
    if not facts.get("user"):
        yield from ("--user", requirements.user, str(requirements.uid))
    if owner:
        yield from ("--member", owner, "docker")
    yield from ("--directory", requirements.host.workdir, owner)
    yield from (
        "--directory",
        shared,
        "" if requirements.share_is_mounted else str(requirements.uid),
    )
    yield "--docker"
    if mounts_share:
        source, where = (each.replace("%", "%%") for each in (requirements.share_source, shared))
        content = _read(
            "share.mount", source=source, directory=where, options=requirements.share_options
        )
        yield from ("--share", shared, mount_unit(shared), content)


def _docker_packages(facts: Facts, *, from_docker: bool) -> tuple[str, ...]:
    """Return the missing packages, Compose last. What is installed stays, whatever its origin."""
    debian = facts.get("os", "debian") == "debian"
    # Debian has packaged the client separately since version 13.
    has_client = debian and facts.get("os_version", "") not in ("10", "11", "12")
    engine = ("docker.io", *(["docker-cli"] if has_client else []))
    compose = "docker-compose" if debian else "docker-compose-v2"
    if from_docker:
        engine, compose = ("docker-ce", "docker-ce-cli", "containerd.io"), "docker-compose-plugin"
    if not facts.get("docker"):
        return (*engine, compose)
    return (compose,) if is_older_compose(facts.get("compose", "")) else ()


def _rules(published: PublishedPorts, facts: Facts) -> Iterator[str]:
    """Yield rules of nftables that let only the named peers reach ports.

    Raises:
        HostNotReady: A peer has no address.
    """
    ports = f"tcp dport {{ {', '.join(map(str, sorted(published.ports)))} }}"
    addresses = [address for peer in published.peers for address in _addresses(peer, facts)]
    for family, version in (("ip", 4), ("ip6", 6)):
        if found := dict.fromkeys(text for text in addresses if _version(text) in (version, 0)):
            yield f"{ports} {family} saddr {{ {', '.join(found)} }} accept"
    yield f"{ports} drop"


def _addresses(peer: str, facts: Facts) -> Sequence[str]:
    """Return a peer's addresses; without facts, its name."""
    if _version(peer) or not facts:
        return (peer,)
    found = [each for each in facts.get(f"peer {peer}", "").split() if _version(each)]
    # Those that are valid only on this host do not identify the peer.
    usable = [
        each
        for each in found
        if not (ip_address(each).is_loopback or ip_address(each).is_link_local)
    ]
    if not usable:
        raise HostNotReady(
            f"the host finds no address for {peer}, which its firewall must let in",
            hint="Enter the name in the DNS zone, write its address into the inventory, or set "
            "prepare.firewall to false there.",
        )
    return usable


def _version(text: str) -> int:
    """Return the version of an address or network of IP; 0 for a name."""
    try:
        return ip_network(text, strict=False).version
    except ValueError:
        return 0


def mount_unit(directory: str) -> str:
    """Return the name that systemd requires of the unit that mounts a directory."""

    def escape(char: str) -> str:
        return "".join(f"\\x{byte:02x}" for byte in char.encode())

    path = "/".join(word for word in directory.split("/") if word)
    text = re.sub(r"[^A-Za-z0-9:_./]|^\.", lambda match: escape(match[0]), path)
    return f"{text.replace('/', '-')}.mount"


def _mounts_share(requirements: HostRequirements, facts: Facts) -> bool:
    return bool(requirements.share_source) and not facts.get("mounted")


def _read(name: str, **values: str) -> str:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return Template(text).substitute(values).rstrip("\n")


def _problems(requirements: HostRequirements, facts: Facts) -> Iterator[Problem]:
    shared, is_container = requirements.shared_directory, bool(facts.get("container"))
    if facts.get("os") not in ("debian", "ubuntu"):
        name = facts.get("os_name") or "a system without /etc/os-release"
        yield Problem(f"it runs {name}, but only Debian and Ubuntu can be prepared", _MANUALLY)
        return
    if facts.get("proxmox"):
        yield Problem(
            "this is a Proxmox host, on which Docker would disturb the network of its guests",
            "Create a container or a virtual machine for KTRDR: docs/proxmox.md describes it.",
        )
    if not facts.get("systemd"):
        yield Problem("its services are not managed by systemd", _MANUALLY)
    if problem := DOCKER_KINDS.get(facts.get("docker_kind", "")):
        yield problem
    lines = []
    if not (facts.get("nesting") and facts.get("keyctl")):
        lines.append(_features_line(requirements, facts))
    if not facts.get("devices"):
        lines.append("lxc.cgroup.devices.allow: a")
    if is_container and lines:
        yield Problem(
            "this container may not run other containers",
            f"Add `{'` and `'.join(lines)}` to {_CONFIGURATION}, and restart it.",
        )
    first_uid, source = _first_uid(facts), requirements.share_source
    mount_outside = (
        f"Mount {source or 'the share'} on the Proxmox host, for example as "
        f"/mnt/pve/ktrdr-shared, and add `mp0: /mnt/pve/ktrdr-shared,mp={shared}` to "
        f"{_CONFIGURATION}. The user {requirements.uid} of the container is "
        f"{first_uid + requirements.uid} there."
    )
    if _mounts_share(requirements, facts) and first_uid:
        message = f"an unprivileged container cannot mount the NFS export for {shared}"
        yield Problem(message, mount_outside)
    if requirements.share_is_mounted and not source and not facts.get("mounted"):
        message = f"the shared directory {shared} is not mounted, and no export is known"
        here = "Mount it, or set prepare.share in the inventory to its NFS export."
        yield Problem(message, mount_outside if is_container else here)


def _features_line(requirements: HostRequirements, facts: Facts) -> str:
    features = "nesting=1,keyctl=1" if _first_uid(facts) else "nesting=1"
    may_mount = _mounts_share(requirements, facts) and not _first_uid(facts)
    return f"features: {features}{',mount=nfs' if may_mount else ''}"


def _notes(requirements: HostRequirements, facts: Facts) -> Iterator[str]:
    if facts.get("container") == "lxc":
        line = _features_line(requirements, facts)
        yield f"{_CONFIGURATION} must contain `{line}`: that cannot be set from inside"
    if mounted := facts.get("mounted"):
        yield f"{requirements.shared_directory} is mounted already ({mounted}), and stays so"
    if first_uid := _first_uid(facts):
        uid = requirements.uid
        yield f"the containers' user {uid} is {first_uid + uid} on the Proxmox host"
    if facts.get("docker"):
        yield f"Docker {facts['docker']} is installed, and stays as it is"
    if facts.get("unattended_upgrades") == "enabled":
        yield "unattended-upgrades may upgrade and restart Docker; its settings stay as they are"
    if facts.get("container"):
        yield "the clock is that of the machine around this container: synchronise it there"
    elif facts and facts.get("synchronised") != "yes":
        yield (
            "the clock is not synchronised with a time server: run `timedatectl set-ntp true`, or "
            "install systemd-timesyncd or chrony"
        )
    for network, route in networks.find_collisions(
        networks.parse_docker_networks(facts.get("networks", "")), _foreign_routes(facts)
    ):
        yield (
            f"Docker's network {network.name} has addresses that the host reaches through "
            f"{route.interface}, and keeps them until it is recreated: see `ktrdr deploy check`"
        )


def _foreign_routes(facts: Facts) -> Iterator[Route]:
    """Yield the routes that Docker has not made, and those to addresses that the host needs."""
    found = networks.parse_docker_networks(facts.get("networks", ""))
    bridges = {"docker0", *(network.interface for network in found)}
    for route in networks.parse_routes(facts.get("routes", "")):
        if route.interface not in bridges and not route.network.is_loopback:
            yield route
    for name, text in facts.items():
        if name == "needed" or name.startswith("peer "):
            for network in filter(None, map(networks.parse_network, text.split())):
                if not network.is_loopback:
                    yield Route(network, "its network")


def _first_uid(facts: Facts) -> int:
    text = facts.get("first_uid", "")
    return int(text) if text.isdigit() else 0
