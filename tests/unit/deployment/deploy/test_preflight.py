"""Checks of a host before a deploy, and the problems that they report."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import make_plan
from ktrdr.deployment.deploy.preflight import check_host, parse_facts, require_ready
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.hosts.problems import all_problems
from ktrdr.errors import ConfigurationError, HostNotReady
from tests.unit.deployment.conftest import SimulatedHost


@pytest.fixture
def problems(planned, clock):
    """Return the problems of a host whose facts differ from those of a good host."""

    def check(target="core", **changes):
        plan = planned(target)
        facts = SimulatedHost(plan).facts | changes
        results = check_host(plan, facts, now=clock.now())
        return [problem.message for problem in all_problems(results)]

    return check


@pytest.fixture
def in_memory(inventory) -> Homelab:
    """Return a homelab that delivers secrets as files in memory."""
    secrets = inventory.secrets.model_copy(update={"delivery": "tmpfs"})
    return Homelab(inventory.model_copy(update={"secrets": secrets}))


def test_a_good_host_has_no_problems(problems):
    assert problems() == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"docker": "missing"}, "Docker is not installed"),
        ({"docker": "down"}, "the Docker daemon is not running"),
        ({"docker": "forbidden"}, "deploy has no permission to use Docker"),
        ({"compose": ""}, "Docker Compose is not installed"),
        ({"lacks": "cmp flock "}, "programs are missing: cmp, flock"),
        ({"compose": "2.37.3"}, "Docker Compose 2.37.3 is older than 2.38.0"),
        ({"compose": "v2.6.0-rc1"}, "Docker Compose v2.6.0-rc1 is older than 2.38.0"),
        (
            {"workdir": "not-writable"},
            "deploy has no permission to write to the work directory /opt/ktrdr-core",
        ),
        (
            {"workdir": "not-a-directory"},
            "the work directory /opt/ktrdr-core cannot be created, because a file is in its place",
        ),
        (
            {"docker_free_kb": str(100 * 1024)},
            "the disk of Docker's directory has too little free space: 100 MiB free, 2048 needed",
        ),
        (
            {"workdir_free_kb": "0"},
            "the disk of the work directory has too little free space: 0 MiB free, 2048 needed",
        ),
        ({"shared": "missing"}, "the shared directory /srv/ktrdr-shared is missing"),
        (
            {"shared": "not-mounted"},
            "the shared directory /srv/ktrdr-shared is not mounted: it is on the host's own disk",
        ),
        ({"shared": "stale"}, "the shared directory /srv/ktrdr-shared does not respond"),
        (
            {"shared": "not-writable"},
            "the containers' user (10001) cannot write to the shared directory /srv/ktrdr-shared",
        ),
    ],
)
def test_each_problem_has_its_message(problems, changes, problem):
    assert problems(**changes) == [problem]


@pytest.mark.parametrize("version", ["2.38.0", "v2.38.1", "5.6.1", "2.39.1-desktop.1"])
def test_a_recent_version_of_compose_is_accepted(problems, version):
    assert problems(compose=version) == []


@pytest.mark.parametrize(("seconds", "direction"), [(90, "ahead of"), (-90, "behind")])
def test_a_clock_skew_that_invalidates_tokens_is_a_problem(problems, clock, seconds, direction):
    host_time = clock.now() + timedelta(seconds=seconds)

    (problem,) = problems(clock=str(int(host_time.timestamp())))

    assert problem.startswith(f"its clock is 90 s {direction} this machine's")


def test_a_small_clock_skew_is_accepted(problems, clock):
    assert problems(clock=str(int(clock.now().timestamp()) + 20)) == []


def test_all_problems_are_reported_together_with_a_remedy_for_each(planned, clock):
    plan = planned("workers")
    bad = {"docker": "down", "compose": "2.0.0", "workdir_free_kb": "1", "shared": "missing"}
    facts = SimulatedHost(plan).facts | bad

    with pytest.raises(HostNotReady) as raised:
        require_ready(plan, facts, now=clock.now())

    error = raised.value
    assert error.exit_code == 6
    assert error.message == (
        "workers-b.lab.test is not ready: the Docker daemon is not running; Docker Compose 2.0.0 "
        "is older than 2.38.0; the disk of the work directory has too little free space: "
        "0 MiB free, 2048 needed; the shared directory /mnt/ktrdr-shared is missing"
    )
    for remedy in ("systemctl start docker", "Compose plugin", "image prune", "mount /mnt/ktrdr"):
        assert remedy in (error.hint or "")


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"handles": "opened"}, None),
        ({"handles": "unknown"}, None),
        (
            {"handles": "Operation not permitted", "owner": "10001"},
            "(Operation not permitted, as by LXC's default)",
        ),
        (
            {"handles": "Operation not permitted", "owner": "110001"},
            "(Operation not permitted, as in unprivileged containers)",
        ),
        ({"handles": "Operation not supported"}, "(Operation not supported)"),
    ],
)
def test_a_host_on_which_no_nfs_server_can_run_is_refused_with_the_remedy(
    planned, clock, facts, problem
):
    plan = planned()
    results = check_host(plan, SimulatedHost(plan).facts | facts, now=clock.now())
    (result,) = [each for each in results if each.name == "NFS server"]
    assert bool(result.note) == (facts["handles"] == "unknown")
    if problem is None:
        assert result.problems == ()
    else:
        (found,) = result.problems
        assert found.message == (
            f"no NFS server can run here, because open_by_handle_at is refused {problem}"
        )
        assert found.hint.startswith("Set `core.nfs: external` in the inventory")


@pytest.mark.parametrize(
    ("state", "owner", "remedy"),
    [
        ("missing", "10001", "Mount it there before Docker starts"),
        ("not-mounted", "10001", "Mount it there before Docker starts"),
        ("stale", "10001", "Check that the Proxmox host or NAS serves it"),
        ("not-writable", "10001", "`chown 10001:10001` on it as root on the Proxmox host or NAS"),
        ("not-writable", "110001", "`chown 110001:110001` on it as root on the Proxmox host"),
    ],
)
def test_the_remedies_of_an_external_share_name_who_serves_it(
    external, release, deploy_id, clock, state, owner, remedy
):
    for host in external.hosts[:2]:
        plan = make_plan(external, host, release, deploy_id, DeployOptions())
        facts = SimulatedHost(plan).facts | {"shared": state, "owner": owner}
        (problem,) = all_problems(check_host(plan, facts, now=clock.now()))
        assert remedy in problem.hint


def test_facts_are_parsed_from_lines_of_name_and_value():
    assert parse_facts("a=1\nnoise\nb=x=y \n") == {"a": "1", "b": "x=y"}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"memory": "tmpfs", "swap": "none"}, None),
        ({"memory": "ramfs", "swap": "/dev/sda2"}, None),
        (
            {"memory": "ext2/ext3"},
            "/run/ktrdr is on a disk (ext2/ext3), so secrets would be stored on it",
        ),
        (
            {"memory": "tmpfs", "swap": "/dev/sda2"},
            (
                "memory, including secrets, may be swapped out to /dev/sda2, which may not be "
                "encrypted"
            ),
        ),
    ],
)
def test_secrets_in_memory_must_stay_there(in_memory, release, deploy_id, clock, changes, problem):
    override = {"deploy/tmpfs/core.yml": b"services: {}"}
    complete = replace(release, files={**release.files, **override})
    plan = make_plan(in_memory, in_memory.hosts[0], complete, deploy_id, DeployOptions())
    facts = SimulatedHost(plan).facts | changes
    messages = [each.message for each in all_problems(check_host(plan, facts, now=clock.now()))]
    assert messages == ([problem] if problem else [])


def test_a_release_that_cannot_deliver_secrets_in_memory_is_refused(in_memory, release, deploy_id):
    with pytest.raises(ConfigurationError, match=r"has no deploy/tmpfs/core\.yml"):
        make_plan(in_memory, in_memory.hosts[0], release, deploy_id, DeployOptions())
