"""Plan of a host's preparation: what is refused, and the script that brings the host there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path
from string import Template
from typing import Final, NamedTuple

from ktrdr.deployment.deploy.preflight import DOCKER_KINDS, MINIMUM_COMPOSE, is_older_compose
from ktrdr.deployment.hosts import networks
from ktrdr.deployment.hosts.host import Host
from ktrdr.deployment.hosts.problems import Problem, require_none
from ktrdr.deployment.prepare.docker_config import complete_config
from ktrdr.deployment.scripts.script import Script
from ktrdr.errors import HostNotReady

Facts = Mapping[str, str]
_KEY_SHA256: Final = "1500c1f56fa9e26b9b8f42452a553675796ade0807cdce11975eb98170b3a570"
_MANUALLY: Final = "Prepare it by hand: docs/deploying.md lists what a host needs."
_CONFIGURATION: Final = "the container's configuration (on Proxmox /etc/pve/lxc/ID.conf)"


@dataclass(frozen=True, slots=True)
class HostRequirements:
    """Requirements of a product on one host.

    Attributes:
        host: The host.
        user: Name of the user that the containers run as.
        uid: Its number.
        shared_directory: Directory that the containers share with other hosts.
        share_is_mounted: Whether that directory comes from another machine.
        share_source: NFS export to mount there, as ``HOST:/PATH``; empty if there is none.
        share_options: Options of the mount.
        published: Published ports, and the peers that may reach them: names, addresses or networks.
            Empty to leave the firewall unchanged.
        from_docker: Whether packages of Docker come from its own repository.
        only_firewall: Whether to update the firewall rules alone, and only if there are any.
    """

    host: Host
    user: str
    uid: int
    shared_directory: str
    share_is_mounted: bool
    share_source: str
    share_options: str
    published: Mapping[tuple[int, ...], Sequence[str]]
    from_docker: bool
    only_firewall: bool


class Preparation(NamedTuple):
    """Plan of a host's preparation.

    Attributes:
        is_deployed: Whether the host has a lock.
        arguments: Arguments of ``prepare.sh``.
        notes: What the operator should know, one sentence each.
        lines: Output of the script: ``* CHANGE``, indented lines below it, and ``! NOTE``.
    """

    is_deployed: bool
    arguments: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    lines: Sequence[str] = ()

    @property
    def changes(self) -> list[str]:
        """Return the changes without details."""
        return [line[2:] for line in self.lines if line.startswith("* ")]


def facts_script(requirements: HostRequirements) -> Script:
    """Build the script that asks a host what its preparation depends on."""
    directories = (requirements.host.workdir, requirements.shared_directory)
    peers = (peer for each in requirements.published.values() for peer in each if "/" not in peer)
    return Script("scripts/prepare_facts.sh", (*directories, *dict.fromkeys(peers)))


def make_preparation(
    requirements: HostRequirements, facts: Facts, *, undo: bool = False
) -> Preparation:
    """Decide how to prepare a host.

    Args:
        requirements: Requirements of the product.
        facts: Output of `facts_script`.
        undo: Whether to undo the firewall rules and the mount of the share instead.

    Raises:
        HostNotReady: The host cannot be prepared; the message names every problem.
    """
    nothing = Preparation(is_deployed=bool(facts["deployed"]))
    if undo:
        arguments = ("--no-firewall", "--no-share", requirements.shared_directory)
        return nothing._replace(arguments=arguments)
    if requirements.only_firewall:
        rules = _firewall(requirements, facts) if facts["firewall"] else ()
        return nothing._replace(arguments=rules)
    host = requirements.host
    subject = f"{host.name} on {host.address} cannot be prepared"
    require_none(subject, _problems(requirements, facts))
    return nothing._replace(
        arguments=tuple(_arguments(requirements, facts)),
        notes=tuple(_notes(requirements, facts)),
    )


def _arguments(requirements: HostRequirements, facts: Facts) -> Iterator[str]:
    shared, owner = requirements.shared_directory, facts["login"].removeprefix("root")
    firewall = _firewall(requirements, facts)
    docker = _docker_packages(facts, from_docker=requirements.from_docker)
    installed = facts["packages"].split()
    if docker and requirements.from_docker and not facts["repository"]:
        if "ca-certificates" not in installed:
            yield from ("--packages", "ca-certificates")
        url = f"https://download.docker.com/linux/{facts['os']}"
        source = _read("docker.sources", url=url, codename=facts["codename"])
        yield from ("--repository", url, _KEY_SHA256, source)
    content, added = complete_config(facts["daemon_json"], _used_networks(facts))
    if added:
        yield from ("--docker-config", content, added)
    basic = (("nftables", firewall), ("nfs-common", _mounts_share(requirements, facts)))
    missing = [name for name, is_needed in basic if is_needed and name not in installed]
    if missing or docker:
        yield from ("--packages", ", ".join([*missing, *docker]))
    yield "--docker"
    yield from firewall
    yield from ("--user", requirements.user, str(requirements.uid))
    if owner:
        yield from ("--member", owner, "docker")
    yield from ("--directory", requirements.host.workdir, owner)
    yield from ("--recovery", requirements.host.workdir, requirements.host.project, owner or "root")
    share_owner = "" if requirements.share_is_mounted else str(requirements.uid)
    yield from ("--directory", shared, share_owner)
    if _mounts_share(requirements, facts):
        source, where = (each.replace("%", "%%") for each in (requirements.share_source, shared))
        content = _read(
            "share.mount", source=source, directory=where, options=requirements.share_options
        )
        yield from ("--share", shared, content)


def _docker_packages(facts: Facts, *, from_docker: bool) -> tuple[str, ...]:
    """Return the missing packages. What is installed stays, whatever its origin."""
    if from_docker:
        names = "docker-ce docker-ce-cli containerd.io docker-compose-plugin"
    elif facts["os"] == "debian":
        # Versions without docker-cli have no Compose that is new enough.
        names = "docker.io docker-cli docker-compose"
    else:
        names = "docker.io docker-compose-v2"
    *engine, compose = names.split()
    compose = f"{compose} (>= {'.'.join(map(str, MINIMUM_COMPOSE))})"
    if not facts["docker"]:
        return (*engine, compose)
    return (compose,) if is_older_compose(facts["compose"]) else ()


def _firewall(requirements: HostRequirements, facts: Facts) -> tuple[str, ...]:
    """Return the option with rules of nftables that let only the named peers reach ports.

    Raises:
        HostNotReady: A peer has no address.
    """
    rules = []
    for numbers, peers in requirements.published.items():
        ports = f"tcp dport {{ {', '.join(map(str, sorted(numbers)))} }}"
        addresses = dict.fromkeys(each for peer in peers for each in _addresses(peer, facts))
        for family, version in (("ip", 4), ("ip6", 6)):
            sources = ", ".join(each for each in addresses if ip_network(each).version == version)
            if sources:
                rules.append(f"{ports} {family} saddr {{ {sources} }} accept")
        rules.append(f"{ports} drop")
    if not rules:
        return ()
    return ("--firewall", _read("firewall.nft", rules="\n        ".join(rules)))


def _addresses(peer: str, facts: Facts) -> list[str]:
    """Return a peer's addresses without those that are valid only on the host itself."""
    if "/" in peer:
        return [peer]
    found = [(each, ip_address(each)) for each in facts[f"peer {peer}"].split()]
    usable = [text for text, each in found if not (each.is_loopback or each.is_link_local)]
    if not usable:
        raise HostNotReady(
            f"the host finds no address for {peer}, which its firewall must let in",
            hint="Enter the name in the DNS zone, write its address into the inventory, or set "
            "prepare.firewall to false there.",
        )
    return usable


def _mounts_share(requirements: HostRequirements, facts: Facts) -> bool:
    return bool(requirements.share_source) and not facts["mounted"]


def _read(name: str, **values: str) -> str:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return Template(text).substitute(values).rstrip("\n")


def _problems(requirements: HostRequirements, facts: Facts) -> Iterator[Problem]:
    shared, source = requirements.shared_directory, requirements.share_source
    if facts["os"] not in ("debian", "ubuntu"):
        name = facts["os_name"] or "a system without /etc/os-release"
        yield Problem(f"it runs {name}, but only Debian and Ubuntu can be prepared", _MANUALLY)
        return
    if facts["proxmox"]:
        yield Problem(
            "this is a Proxmox host, on which Docker would disturb the network of its guests",
            "Create a container or a virtual machine for KTRDR: docs/proxmox.md describes it.",
        )
    if not facts["systemd"]:
        yield Problem("its services are not managed by systemd", _MANUALLY)
    if problem := DOCKER_KINDS.get(facts["docker_kind"]):
        yield problem
    needed = {
        _features_line(requirements, facts): facts["nesting"],
        "lxc.cgroup.devices.allow: a": facts["devices"],
    }
    lines = "` and `".join(line for line, is_set in needed.items() if not is_set)
    if facts["container"] and lines:
        yield Problem(
            "this container may not run other containers",
            f"Add `{lines}` to {_CONFIGURATION}, and restart it.",
        )
    outside = (
        f"Mount {source or 'the share'} on the Proxmox host, for example as "
        f"/mnt/pve/ktrdr-shared, and add `mp0: /mnt/pve/ktrdr-shared,mp={shared}` to "
        f"{_CONFIGURATION}. The user {requirements.uid} of the container is "
        f"{_first_uid(facts) + requirements.uid} there."
    )
    if requirements.share_is_mounted and not facts["mounted"] and (not source or _first_uid(facts)):
        reason = "an unprivileged container cannot mount NFS" if source else "no export is known"
        here = "Mount it, or set prepare.share in the inventory to its NFS export."
        yield Problem(
            f"the shared directory {shared} is not mounted, and {reason}",
            outside if facts["container"] else here,
        )


def _features_line(requirements: HostRequirements, facts: Facts) -> str:
    if _first_uid(facts):
        return "features: nesting=1,keyctl=1"
    return f"features: nesting=1{',mount=nfs' if _mounts_share(requirements, facts) else ''}"


def _notes(requirements: HostRequirements, facts: Facts) -> Iterator[str]:
    if facts["container"] == "lxc":
        line = _features_line(requirements, facts)
        yield f"{_CONFIGURATION} must contain `{line}`: that cannot be set from inside"
    if mounted := facts["mounted"]:
        yield f"{requirements.shared_directory} is mounted already ({mounted}), and stays so"
    if first_uid := _first_uid(facts):
        outer = first_uid + requirements.uid
        yield f"the containers' user {requirements.uid} is {outer} on the Proxmox host"
    if facts["unattended_upgrades"] == "enabled":
        yield "unattended-upgrades may upgrade and restart Docker; its settings stay as they are"
    if facts["container"]:
        yield "the clock is that of the machine around this container: synchronise it there"
    elif facts["synchronised"] != "yes":
        yield (
            "the clock is not synchronised with a time server: run `timedatectl set-ntp true`, or "
            "install systemd-timesyncd or chrony"
        )


def _used_networks(facts: Facts) -> Iterator[IPv4Network]:
    """Yield the networks of routes that Docker has not made, and the addresses that hosts need."""
    found = networks.parse_docker_networks(facts["networks"])
    bridges = {"docker0", *(network.interface for network in found)}
    for route in networks.parse_routes(facts["routes"]):
        if route.interface not in bridges:
            yield route.network
    texts = (text for name, text in facts.items() if name == "needed" or name.startswith("peer "))
    yield from filter(None, map(networks.parse_network, " ".join(texts).split()))


def _first_uid(facts: Facts) -> int:
    return int(facts["first_uid"])
