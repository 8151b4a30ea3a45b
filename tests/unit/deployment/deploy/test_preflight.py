"""Checks of a host before a deploy, and the problems that they report."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import make_plan
from ktrdr.deployment.deploy.preflight import check_host, parse_facts
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.hosts.problems import Problem, all_problems, require_none
from ktrdr.errors import ConfigurationError, HostNotReady
from tests.unit.deployment.conftest import SimulatedHost
from tests.unit.deployment.histories import history_entry, history_lines


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
        (
            {"docker": 'error current context "old" is not found'},
            'Docker does not answer: current context "old" is not found',
        ),
        ({"docker": "error"}, "Docker does not answer"),
        ({"docker": "waiting"}, "Docker does not respond"),
        (
            {"docker": "missing", "docker_kind": "snap"},
            "Docker is installed as a snap, which cannot read the work directory",
        ),
        (
            {"docker": "down", "docker_kind": "rootless"},
            "Docker runs rootless, which cannot publish ports with the addresses of their clients",
        ),
        (
            {"docker_kind": "podman"},
            "the program docker is Podman, which lacks what deploys use",
        ),
        (
            {
                "networks": "ktrdr-core_default 0123 - 172.19.0.0/16|",
                "routes": "172.19.0.0/16 br-0123|172.19.5.0/24 eth0|",
            },
            (
                "Docker's network ktrdr-core_default (172.19.0.0/16) has addresses that the host "
                "reaches through eth0 (172.19.5.0/24)"
            ),
        ),
        ({"compose": ""}, "Docker Compose is not installed"),
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
            {"image_store_free_kb": "1024"},
            "the disk of containerd's directory has too little free space: 1 MiB free, 2048 needed",
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
        require_none("it is not ready", all_problems(check_host(plan, facts, now=clock.now())))

    error = raised.value
    assert error.exit_code == 6
    assert error.message == (
        "it is not ready: the Docker daemon is not running; Docker Compose 2.0.0 "
        "is older than 2.38.0; the disk of the work directory has too little free space: "
        "0 MiB free, 2048 needed; the shared directory /mnt/ktrdr-shared is missing"
    )
    for remedy in (
        "systemctl start docker",
        "Compose plugin",
        "deploy prune workers B",
        "mount /mnt/ktrdr",
    ):
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
        (
            {"memory": "tmpfs", "swap": "virtual"},
            (
                "memory, including secrets, may be swapped out to the swap of this container's "
                "host, which may not be encrypted"
            ),
        ),
    ],
)
def test_secrets_in_memory_must_stay_there(memory_problems, changes, problem):
    messages = [each.message for each in memory_problems(changes)]
    assert messages == ([problem] if problem else [])


@pytest.fixture
def memory_problems(in_memory, release, deploy_id, clock):
    """Return the problems of a host with secrets in memory, whose facts differ."""

    def check(changes):
        override = {"deploy/tmpfs/core.yml": b"services: {}"}
        complete = replace(release, files={**release.files, **override})
        plan = make_plan(in_memory, in_memory.hosts[0], complete, deploy_id, DeployOptions())
        facts = SimulatedHost(plan).facts | {"memory": "tmpfs", "swap": "none"} | changes
        return list(all_problems(check_host(plan, facts, now=clock.now())))

    return check


@pytest.mark.parametrize(
    ("changes", "inside", "outside"),
    [
        ({"swap": "/dev/dm-1"}, "`swapoff -a`", "`pct set CTID --swap 0`"),
        ({"clock": "0"}, "`timedatectl set-ntp true`)", "`timedatectl set-ntp true` on its own"),
    ],
)
def test_a_remedy_that_fails_in_a_container_names_the_command_for_its_host(
    memory_problems, changes, inside, outside
):
    (on_a_machine,) = memory_problems(changes)
    assert inside in on_a_machine.hint
    (in_a_container,) = memory_problems(changes | {"container": "lxc"})
    assert outside in in_a_container.hint
    assert in_a_container.hint.startswith("This host is a container: run `")
    assert in_a_container.hint.endswith(" on its own host, such as Proxmox.")
    assert "swapoff" not in in_a_container.hint


def test_swap_as_lxcfs_shows_it_is_that_of_a_container_even_if_nothing_else_says_so(
    memory_problems,
):
    (problem,) = memory_problems({"swap": "virtual"})
    assert "`pct set CTID --swap 0`" in problem.hint


def test_a_configuration_of_docker_that_it_ignores_is_noted_and_no_problem(planned, clock):
    plan = planned("core")
    facts = SimulatedHost(plan).facts | {"docker_warning": "open /root/.docker/config.json: denied"}
    results = list(check_host(plan, facts, now=clock.now()))
    assert not list(all_problems(results))
    (note,) = [result.note for result in results if result.note]
    assert note.startswith("Docker ignores its configuration (open /root/.docker/config.json: den")
    assert note.endswith("correct the file, or `chown deploy` it")


def test_a_host_on_which_nothing_goes_on_after_a_restart_is_noted(planned, clock):
    plan = planned("workers")
    facts = {**SimulatedHost(plan).facts, "recovery": "missing"}
    (result,) = (each for each in check_host(plan, facts, now=clock.now()) if each.note)
    assert not result.problems
    assert result.note.endswith("run `ktrdr host prepare workers B`")


def test_a_release_that_cannot_deliver_secrets_in_memory_is_refused(in_memory, release, deploy_id):
    with pytest.raises(ConfigurationError, match=r"has no deploy/tmpfs/core\.yml"):
        make_plan(in_memory, in_memory.hosts[0], release, deploy_id, DeployOptions())


@pytest.mark.parametrize(
    ("target", "network", "remedy"),
    [
        ("core", "ktrdr-core_x", "`ktrdr deploy down core`, `ktrdr deploy core all`"),
        ("workers", "ktrdr-workers_x", "`ktrdr deploy down workers B`, `ktrdr deploy workers B`"),
        ("core", "elsewhere", "then recreate the network."),
    ],
)
def test_the_remedy_for_a_collision_recreates_the_network(
    planned, clock, target, network, remedy
) -> None:
    plan = planned(target)
    facts = SimulatedHost(plan).facts | {
        "networks": f"{network} 0123 - 172.19.0.0/16|",
        "routes": "172.19.0.0/16 eth0|",
    }
    (problem,) = all_problems(check_host(plan, facts, now=clock.now()))
    assert remedy in problem.hint
    assert f"`ktrdr host prepare {plan.host.name}`" in problem.hint


# --------------------------------------------------------------------------------- names of hosts


def test_containers_must_be_able_to_resolve_the_other_hosts(problems):
    assert problems("workers", **{"resolves backend.lab.test": "yes"}) == []
    assert problems("workers", **{"resolves backend.lab.test": "no"}) == [
        (
            "containers cannot resolve backend.lab.test: no DNS server knows it, only /etc/hosts "
            "or mDNS here"
        )
    ]
    assert problems("workers", **{"resolves other.lab.test": "no"}) == [], (
        "no container asks for it"
    )


def test_a_name_that_cannot_be_asked_for_is_a_note(planned, clock):
    plan = planned()
    names = {"resolves workers-b.lab.test": "unknown", "resolves workers-c.lab.test": "yes"}
    results = check_host(plan, SimulatedHost(plan).facts | names, now=clock.now())
    (result,) = [each for each in results if each.name == "names"]
    assert (result.problems, result.note) == (
        (),
        "containers may not be able to resolve workers-b.lab.test",
    )


def test_one_host_under_two_names_is_refused_with_both(planned, clock) -> None:
    names: dict[tuple[str, str], str] = {}
    facts = {"identity": "4711-54"}
    found: list[Problem] = []
    for plan in (planned("core"), planned("workers", node="B"), planned("workers", node="C")):
        host = SimulatedHost(plan).facts | facts
        found += all_problems(check_host(plan, host, now=clock.now(), names=names))
    assert [problem.message for problem in found] == [
        "workers B and workers C are one host under two names, with one stack"
    ], "the core may share the host with workers"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("- 1 http: connect: Connection refused", "Connection refused"),
        ("- 124 ", "no response"),
        ("- 1 ", "code 1"),
        ("503", "503"),
    ],
)
def test_workers_are_refused_while_the_backend_is_away(problems, answer, reason) -> None:
    (message,) = problems("workers", api=answer)
    assert message.startswith("the backend does not answer at ")
    assert f"({reason}), so workers could not register" in message


@pytest.mark.parametrize("answer", ["200", "401", "open", "unknown"])
def test_a_backend_that_answers_is_no_problem(problems, answer) -> None:
    assert problems("workers", api=answer) == []


def test_only_workers_that_are_deployed_without_the_core_need_the_backend_before(planned) -> None:
    url = "http backend.lab.test 8000 /api/v1/health"
    assert url in planned("workers", is_alone=True).check_options()
    assert "--api" not in planned("workers").check_options()
    assert "--api" not in planned("core", is_alone=True).check_options()


def test_a_renamed_node_is_refused_with_the_way_to_keep_its_history(problems) -> None:
    (message,) = problems("workers", projects="ktrdr-core=/opt/x|ktrdr-workers=/opt/ktrdr-old|")
    assert "belong to /opt/ktrdr-old, which has their lock, history and releases" in message
    assert problems("workers", projects="ktrdr-workers=/opt/ktrdr-workers-b|") == []


def notes(plan, clock, **facts: str) -> list[str]:
    results = check_host(plan, SimulatedHost(plan).facts | facts, now=clock.now())
    return [result.note for result in results if result.note]


def test_the_check_says_beforehand_that_there_is_no_way_back(planned, clock) -> None:
    plan = planned()
    entry = history_entry(1, images={"db:1": "sha256:1"})
    facts = {
        "projects": "ktrdr-core=/opt/ktrdr-core|",
        "history": "\t".join(history_lines(entry)),
        "kept": "conf-1.tar.gz",
        "digests": "sha256:1 sha256:9",
    }
    assert notes(plan, clock, **facts) == []
    (empty,) = notes(plan, clock, **facts | {"history": ""})
    assert "there is no way back on core if a new release fails: its history has no" in empty
    assert "`ktrdr deploy core all --tag TAG`" in empty
    (gone,) = notes(plan, clock, **facts | {"kept": ""})
    assert "it does not keep the configuration of release r1 any more" in gone
    (pruned,) = notes(plan, clock, **facts | {"digests": "sha256:9"})
    assert "db:1 of the last release is gone, unless the registry has it" in pruned
    assert notes(plan, clock, **facts | {"projects": "", "history": ""}) == [], "the first day"


def test_a_history_that_lacks_what_its_copy_has_is_named_with_the_command(planned, clock) -> None:
    (note,) = notes(planned("workers"), clock, copy="ahead")
    copy = "/mnt/ktrdr-shared/.ktrdr-history/ktrdr-workers-workers-b.lab.test.jsonl"
    assert f"cat {copy} history.jsonl >restored; mv restored history.jsonl" in note
