"""Plans of preparations: what is refused, and what the script is told to do."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from ktrdr.deployment.prepare.plan import Preparation, facts_script, make_preparation
from ktrdr.errors import HostNotReady
from tests.unit.deployment.prepare.conftest import BARE, PREPARED


def values_of(plan: Preparation, option: str) -> list[tuple[str, ...]]:
    """Return the arguments of each occurrence of an option."""
    found: list[list[str]] = []
    for word in plan.arguments:
        if word.startswith("--"):
            found.append([word])
        else:
            found[-1].append(word)
    return [tuple(rest) for name, *rest in found if name == option]


def packages(plan: Preparation) -> list[str]:
    return [name for (names,) in values_of(plan, "--packages") for name in names.split(", ")]


def rules(plan: Preparation) -> list[str]:
    ((text,),) = values_of(plan, "--firewall")
    return [line.strip() for line in text.splitlines() if "dport" in line]


# ------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("changes", "message", "remedy"),
    [
        ({"os": "fedora", "os_name": "Fedora Linux 43"}, "it runs Fedora Linux 43", "by hand"),
        ({"os": "", "os_name": ""}, "a system without /etc/os-release", "by hand"),
        ({"proxmox": "yes"}, "this is a Proxmox host", "docs/proxmox.md"),
        ({"systemd": ""}, "not managed by systemd", "by hand"),
        ({"docker_kind": "snap"}, "installed as a snap", "snap disable docker"),
        ({"docker_kind": "rootless"}, "runs rootless", "systemctl --user disable --now docker"),
        ({"docker_kind": "podman"}, "is Podman", "apt-get remove podman-docker"),
        ({"nesting": ""}, "may not run other containers", "`features: nesting=1`"),
        ({"nesting": "", "first_uid": "100000"}, "may not run", "features: nesting=1,keyctl=1"),
        ({"devices": ""}, "may not run", "`lxc.cgroup.devices.allow: a`"),
        ({"daemon_json": "ew=="}, "daemon.json is not valid", "dockerd --validate"),
        ({"peer workers-c.lab.test": ""}, "no address for workers-c.lab.test", "DNS zone"),
        ({"peer workers-c.lab.test": "127.0.1.1"}, "no address for workers-c", "DNS zone"),
    ],
)
def test_what_cannot_be_prepared_is_refused_by_name(requirements, changes, message, remedy) -> None:
    with pytest.raises(HostNotReady) as raised:
        make_preparation(requirements("core"), BARE | changes)
    assert message in raised.value.message
    assert remedy in (raised.value.hint or "")


def test_all_problems_are_reported_together(requirements) -> None:
    facts = BARE | {"docker_kind": "snap", "nesting": "", "devices": ""}
    with pytest.raises(HostNotReady) as raised:
        make_preparation(requirements("workers", "B"), facts)
    assert raised.value.message == (
        "workers B on workers-b.lab.test cannot be prepared: Docker is installed as a snap, which "
        "cannot read the work directory; this container may not run other containers"
    )
    assert "`features: nesting=1,mount=nfs` and `lxc.cgroup.devices.allow: a`" in str(
        raised.value.hint
    )


def test_an_unprivileged_container_gets_the_share_from_the_machine_around_it(requirements) -> None:
    facts = BARE | {"first_uid": "100000"}
    with pytest.raises(HostNotReady) as raised:
        make_preparation(requirements("workers", "B"), facts)
    hint = raised.value.hint or ""
    assert "`mp0: /mnt/pve/ktrdr-shared,mp=/mnt/ktrdr-shared`" in hint
    assert "The user 10001 of the container is 110001 there." in hint
    plan = make_preparation(requirements("workers", "B"), facts | {"mounted": "/dev/sda[/share]"})
    assert values_of(plan, "--share") == []
    assert any("mounted already (/dev/sda[/share])" in note for note in plan.notes)
    assert any("10001 is 110001 on the Proxmox host" in note for note in plan.notes)


@pytest.mark.parametrize("kind", ["", "docker"])
def test_other_machines_hear_nothing_of_proxmox(requirements, kind) -> None:
    plan = make_preparation(requirements("core"), BARE | {"container": kind})
    assert not any("Proxmox" in note for note in plan.notes)


# -------------------------------------------------------------------------------------- packages


def test_docker_comes_from_its_own_repository_by_default(requirements) -> None:
    plan = make_preparation(requirements("core"), BARE)
    assert packages(plan) == [
        *("ca-certificates", "nftables"),
        *("docker-ce", "docker-ce-cli", "containerd.io", "docker-compose-plugin (>= 2.38.0)"),
    ]
    ((url, _, source),) = values_of(plan, "--repository")
    assert url == "https://download.docker.com/linux/debian"
    assert "Suites: trixie\n" in source
    order = [word for word in plan.arguments if word.startswith("--")]
    assert order[:5] == ["--packages", "--repository", "--docker-config", "--packages", "--docker"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ["docker.io", "docker-cli", "docker-compose (>= 2.38.0)"]),
        ({"os": "ubuntu"}, ["docker.io", "docker-compose-v2 (>= 2.38.0)"]),
    ],
)
def test_the_distributions_packages_have_their_own_names(requirements, changes, expected) -> None:
    plan = make_preparation(requirements("core", docker_packages="distribution"), BARE | changes)
    assert packages(plan) == ["nftables", *expected]
    assert values_of(plan, "--repository") == []


def test_an_installed_docker_stays_and_only_an_old_compose_is_replaced(requirements) -> None:
    plan = make_preparation(requirements("core"), PREPARED)
    assert packages(plan) == []
    assert values_of(plan, "--repository") == []
    plan = make_preparation(requirements("core"), PREPARED | {"compose": "2.26.1"})
    assert packages(plan) == ["docker-compose-plugin (>= 2.38.0)"]


def test_a_repository_that_is_there_already_is_not_added_again(requirements) -> None:
    facts = BARE | {"repository": "/etc/apt/sources.list.d/docker.list "}
    assert values_of(make_preparation(requirements("core"), facts), "--repository") == []


# ------------------------------------------------------------------ users, directories, the share


def test_the_core_gives_its_own_share_to_the_containers(requirements) -> None:
    plan = make_preparation(requirements("core"), BARE)
    assert values_of(plan, "--user") == [("ktrdr", "10001")]
    assert values_of(plan, "--directory") == [
        ("/opt/ktrdr-core", ""),
        ("/srv/ktrdr-shared", "10001"),
    ]
    assert values_of(plan, "--share") == []
    assert "nfs-common" not in packages(plan)


def test_another_user_than_root_joins_docker_and_owns_the_work_directory(requirements) -> None:
    plan = make_preparation(requirements("core"), BARE | {"login": "deploy"})
    assert values_of(plan, "--member") == [("deploy", "docker")]
    assert ("/opt/ktrdr-core", "deploy") in values_of(plan, "--directory")


def test_a_worker_mounts_the_cores_export_before_docker_starts(requirements) -> None:
    plan = make_preparation(requirements("workers", "B"), BARE)
    ((directory, content),) = values_of(plan, "--share")
    assert directory == "/mnt/ktrdr-shared"
    lines = content.splitlines()
    assert "What=backend.lab.test:/srv/ktrdr-shared" in lines
    assert "Where=/mnt/ktrdr-shared" in lines
    assert "Type=nfs" in lines, "Proxmox' mount=nfs allows no other type"
    assert "Before=docker.service umount.target" in lines
    assert "RequiredBy=docker.service" in lines
    (options,) = [line for line in lines if line.startswith("Options=")]
    assert {"hard", "nosuid", "nodev", "nosymfollow", "nfsvers=4.2", "port=2049"} <= set(
        options.partition("=")[2].split(",")
    )
    assert "nfs-common" in packages(plan)
    assert any("`features: nesting=1,mount=nfs`" in note for note in plan.notes)


def test_an_export_of_a_nas_is_mounted_on_core_and_workers(requirements) -> None:
    for words in (["core"], ["workers", "B"]):
        plan = make_preparation(requirements(*words, share="nas.lab:/tank/100%"), BARE)
        ((_, content),) = values_of(plan, "--share")
        assert "What=nas.lab:/tank/100%%" in content, "systemd would expand a single %"
        assert "port=" not in content
        assert "10001" not in [owner for _, owner in values_of(plan, "--directory")]


@pytest.mark.parametrize(
    ("words", "directory"),
    [(["core"], "/srv/ktrdr-shared"), (["workers", "B"], "/mnt/ktrdr-shared")],
)
def test_an_external_share_must_be_mounted_or_have_a_known_export(
    requirements, words, directory
) -> None:
    external = requirements(*words, nfs="external")
    with pytest.raises(HostNotReady) as raised:
        make_preparation(external, BARE)
    assert f"the shared directory {directory} is not mounted" in raised.value.message
    assert f"mp0: /mnt/pve/ktrdr-shared,mp={directory}" in (raised.value.hint or "")
    plan = make_preparation(external, BARE | {"mounted": "/dev/sda[/share]"})
    assert (directory, "") in values_of(plan, "--directory"), "its owner is set elsewhere"
    assert values_of(plan, "--share") == [], "the core serves nothing"


def test_without_an_nfs_server_the_core_opens_no_port_for_it(requirements) -> None:
    facts = BARE | {"mounted": "/dev/sda[/share]"}
    assert rules(make_preparation(requirements("core", nfs="external"), facts)) == [
        "tcp dport { 4317, 5432 } ip saddr { 10.0.0.12, 10.0.0.13 } accept",
        "tcp dport { 4317, 5432 } ip6 saddr { fd00::12 } accept",
        "tcp dport { 4317, 5432 } drop",
    ]


# -------------------------------------------------------------------------------------- firewall


def test_only_nodes_reach_the_ports_of_the_core_that_are_for_them(requirements) -> None:
    assert rules(make_preparation(requirements("core"), BARE)) == [
        "tcp dport { 2049, 4317, 5432 } ip saddr { 10.0.0.12, 10.0.0.13 } accept",
        "tcp dport { 2049, 4317, 5432 } ip6 saddr { fd00::12 } accept",
        "tcp dport { 2049, 4317, 5432 } drop",
    ]


def test_only_the_core_reaches_the_workers(requirements) -> None:
    assert rules(make_preparation(requirements("workers", "B"), BARE)) == [
        "tcp dport { 5003, 5004, 5005, 5006, 5007, 5008 } ip saddr { 10.0.0.11 } accept",
        "tcp dport { 5003, 5004, 5005, 5006, 5007, 5008 } drop",
    ]


def test_people_may_be_restricted_to_networks(requirements) -> None:
    plan = make_preparation(requirements("core", people=["10.9.0.0/24", "fd09::/64"]), BARE)
    assert rules(plan)[3:] == [
        "tcp dport { 3000, 8000, 16686 } ip saddr { 10.9.0.0/24, 10.0.0.12, 10.0.0.13 } accept",
        "tcp dport { 3000, 8000, 16686 } ip6 saddr { fd09::/64, fd00::12 } accept",
        "tcp dport { 3000, 8000, 16686 } drop",
    ]


def test_addresses_that_are_valid_only_on_the_host_itself_are_left_out(requirements) -> None:
    facts = BARE | {"peer backend.lab.test": "127.0.1.1 fe80::1 10.0.0.11"}
    assert "{ 10.0.0.11 }" in rules(make_preparation(requirements("workers", "B"), facts))[0]


def test_the_firewall_can_be_left_to_the_operator(requirements) -> None:
    facts = BARE | {"peer workers-c.lab.test": ""}
    plan = make_preparation(requirements("core", firewall=False), facts)
    assert "--firewall" not in plan.arguments
    assert "nftables" not in packages(plan)


def test_a_core_that_was_not_named_is_updated_only_if_it_has_rules(requirements) -> None:
    core = requirements("core", only_firewall=True)
    assert make_preparation(core, BARE).arguments == ()
    plan = make_preparation(core, PREPARED)
    assert plan.arguments[0] == "--firewall"
    assert len(plan.arguments) == 2


@pytest.mark.skipif(not shutil.which("nft"), reason="needs nftables")
def test_nftables_understands_the_rules(requirements) -> None:
    ((text,),) = values_of(make_preparation(requirements("core"), BARE), "--firewall")
    done = subprocess.run(
        ["nft", "--check", "-f", "-"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------ Docker, the notes


@pytest.mark.parametrize("fact", ["peer backend.lab.test", "needed"])
def test_addresses_that_the_host_needs_are_kept_out_of_dockers_pools(requirements, fact) -> None:
    facts = BARE | {fact: "10.0.0.1 172.18.0.5"}
    ((_, added),) = values_of(
        make_preparation(requirements("workers", "B"), facts), "--docker-config"
    )
    assert "default-address-pools" in added


def test_routes_of_docker_itself_do_not_count(requirements) -> None:
    facts = BARE | {
        "networks": "a 0123456789ab - 172.18.0.0/16|",
        "routes": "172.17.0.0/16 docker0|172.18.0.0/16 br-0123456789ab|127.0.0.0/8 lo|",
    }
    ((_, added),) = values_of(make_preparation(requirements("core"), facts), "--docker-config")
    assert "default-address-pools" not in added


def test_what_stays_as_it_is_and_what_is_only_checked_is_reported(requirements) -> None:
    facts = PREPARED | {
        "container": "",
        "synchronised": "no",
        "unattended_upgrades": "enabled",
    }
    notes = " ".join(make_preparation(requirements("core"), facts).notes)
    assert "unattended-upgrades may upgrade and restart Docker" in notes
    assert "the clock is not synchronised" in notes
    facts |= {"synchronised": "yes", "unattended_upgrades": "disabled"}
    notes = " ".join(make_preparation(requirements("core"), facts).notes)
    assert "clock" not in notes
    assert "unattended" not in notes


def test_undoing_removes_the_rules_and_the_mount(requirements) -> None:
    plan = make_preparation(requirements("workers", "B"), BARE | {"os": "fedora"}, undo=True)
    assert plan.arguments == ("--no-firewall", "--no-share", "/mnt/ktrdr-shared")


def test_the_host_is_asked_for_the_addresses_of_its_peers(requirements) -> None:
    assert facts_script(requirements("core", people=["10.9.0.0/24"])).arguments == (
        *("/opt/ktrdr-core", "/srv/ktrdr-shared", "workers-b.lab.test", "workers-c.lab.test"),
    )
