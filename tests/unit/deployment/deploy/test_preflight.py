"""What is said of hosts that cannot run the stack."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ktrdr.deployment.deploy.plan import Request, make
from ktrdr.deployment.deploy.preflight import check, findings, parse_facts
from ktrdr.errors import ConfigurationError, HostNotReady


@pytest.fixture
def complaints(planned, host_of, clock):
    """What is found when these facts are different from those of a good host."""

    def find(target="core", **changes):
        plan = planned(target)
        facts = host_of(plan).facts | changes
        return [finding.message for finding in findings(plan, facts, now=clock.now())]

    return find


def test_a_good_host_raises_no_complaint(complaints):
    assert complaints() == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"docker": "missing"}, "Docker is not installed"),
        ({"docker": "down"}, "the Docker daemon does not run"),
        ({"docker": "forbidden"}, "deploy may not use Docker"),
        ({"compose": ""}, "Docker Compose is not installed"),
        ({"lacks": "cmp flock "}, "it has no cmp, no flock"),
        ({"compose": "2.37.3"}, "Docker Compose 2.37.3 is older than 2.38.0"),
        ({"compose": "v2.6.0-rc1"}, "Docker Compose v2.6.0-rc1 is older than 2.38.0"),
        (
            {"workdir": "not-writable"},
            "deploy may not write to the work directory /opt/ktrdr-core",
        ),
        (
            {"workdir": "not-a-directory"},
            "the work directory /opt/ktrdr-core cannot be made, because a file is in its way",
        ),
        (
            {"docker_free_kb": str(100 * 1024)},
            "the disk of Docker's directory is full: 100 MiB are free and 2048 needed",
        ),
        (
            {"workdir_free_kb": "0"},
            "the disk of the work directory is full: 0 MiB are free and 2048 needed",
        ),
        ({"shared": "missing"}, "the shared directory /srv/ktrdr-shared is missing"),
        (
            {"shared": "not-mounted"},
            ("the shared directory /srv/ktrdr-shared is not mounted, it is a part of the host's "
            "own disk"),
        ),
        ({"shared": "stale"}, "the shared directory /srv/ktrdr-shared does not answer"),
        (
            {"shared": "not-writable"},
            ("the containers' user (10001) may not write to the shared directory "
            "/srv/ktrdr-shared"),
        ),
    ],
)  # fmt: skip
def test_each_fault_has_words_of_its_own(complaints, changes, complaint):
    assert complaints(**changes) == [complaint]


@pytest.mark.parametrize("version", ["2.38.0", "v2.38.1", "5.6.1", "2.39.1-desktop.1"])
def test_a_compose_that_is_new_enough_is_accepted(complaints, version):
    assert complaints(compose=version) == []


@pytest.mark.parametrize(("seconds", "direction"), [(90, "ahead of"), (-90, "behind")])
def test_a_clock_that_tokens_would_not_survive_is_reported(complaints, clock, seconds, direction):
    host_time = clock.now() + timedelta(seconds=seconds)

    (complaint,) = complaints(clock=str(int(host_time.timestamp())))

    assert complaint.startswith(f"its clock is 90 s {direction} this machine's")


def test_a_clock_that_is_a_little_off_is_accepted(complaints, clock):
    assert complaints(clock=str(int(clock.now().timestamp()) + 20)) == []


def test_all_faults_are_reported_at_once_with_all_remedies(planned, host_of, clock):
    plan = planned("workers")
    bad = {"docker": "down", "compose": "2.0.0", "workdir_free_kb": "1", "shared": "missing"}
    facts = host_of(plan).facts | bad

    with pytest.raises(HostNotReady) as refusal:
        check(plan, facts, now=clock.now())

    error = refusal.value
    assert error.exit_code == 6
    assert error.message == (
        "workers-b.lab.test is not ready: the Docker daemon does not run; Docker Compose 2.0.0 is "
        "older than 2.38.0; the disk of the work directory is full: 0 MiB are free and 2048 "
        "needed; the shared directory /mnt/ktrdr-shared is missing"
    )
    for remedy in ("systemctl start docker", "Compose plugin", "image prune", "mount /mnt/ktrdr"):
        assert remedy in (error.hint or "")


def test_facts_are_lines_of_name_and_value():
    assert parse_facts("a=1\nnoise\nb=x=y \n") == {"a": "1", "b": "x=y"}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"memory": "tmpfs", "swap": "none"}, None),
        ({"memory": "ramfs", "swap": "/dev/sda2"}, None),
        (
            {"memory": "ext2/ext3"},
            "/run/ktrdr is on a disk (ext2/ext3), so that secrets would be, too",
        ),
        (
            {"memory": "tmpfs", "swap": "/dev/sda2"},
            (
                "memory is swapped out to /dev/sda2, which is not known to be encrypted, "
                "and secrets with it"
            ),
        ),
    ],
)
def test_secrets_are_delivered_in_memory_only_where_they_stay_there(
    inventory, release, stamp, host_of, clock, changes, complaint
):
    in_memory = inventory.model_copy(
        update={"secrets": inventory.secrets.model_copy(update={"delivery": "tmpfs"})}
    )
    override = {"deploy/tmpfs/core.yml": b"services: {}"}
    shipped = replace(release, files={**release.files, **override})
    plan = make(in_memory, Request(target="core"), shipped, stamp)
    facts = host_of(plan).facts | changes
    found = [finding.message for finding in findings(plan, facts, now=clock.now())]
    assert found == ([complaint] if complaint else [])


def test_a_release_that_cannot_deliver_in_memory_is_refused(inventory, release, stamp):
    in_memory = inventory.model_copy(
        update={"secrets": inventory.secrets.model_copy(update={"delivery": "tmpfs"})}
    )
    with pytest.raises(ConfigurationError, match=r"has no deploy/tmpfs/core\.yml"):
        make(in_memory, Request(target="core"), release, stamp)
