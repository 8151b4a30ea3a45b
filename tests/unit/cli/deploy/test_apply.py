"""`ktrdr deploy workers --behind`: which nodes it deploys, and with which release."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ktrdr.cli.commands.deploy import deploy
from ktrdr.cli.deploy import apply, execution
from ktrdr.cli.hosts import HostConnections
from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.hosts.history import HistoryEntry
from ktrdr.errors import UsageError
from ktrdr.secret import Scrubber
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.conftest import WORKERS
from tests.unit.deployment.histories import history_entry, history_lines

OLD, NEW = history_entry(1, "v1"), history_entry(2, "v2")


class Workers:
    """`ktrdr deploy workers` in a checkout, with hosts that remember deploys.

    Attributes:
        transport: Connections to the simulated hosts.
        plans: Plans that would be run.
    """

    def __init__(self) -> None:
        self.transport = RecordingTransport()
        self.plans: list[Plan] = []

    def remember(self, host: str, *entries: HistoryEntry) -> None:
        answer = Answer(stdout="\n".join(history_lines(*entries)))
        self.transport.answer(answer, host=f"{host}.lab.test")

    def run(self, *words: str) -> Result:
        result = CliRunner().invoke(deploy, ["workers", "all", "--behind", *words])
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    @property
    def deployed(self) -> list[tuple[str, str]]:
        return [(plan.host.node, plan.release.tag) for plan in self.plans]


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workers:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/inventory.yml").write_text("domain: lab.test\nworkers: {B: , C: }\n")
    (tmp_path / "docker-compose.workers.yml").write_text(WORKERS)
    (tmp_path / ".env.workers").write_text("")
    workers = Workers()
    connections = HostConnections(workers.transport, Scrubber())  # type: ignore[arg-type]  # simulated
    monkeypatch.setattr(apply, "open_connections", lambda *_, **__: nullcontext(connections))
    monkeypatch.setattr(execution, "run_plans", lambda plans, *_: workers.plans.extend(plans))
    monkeypatch.chdir(tmp_path)
    workers.remember("backend", OLD, NEW)
    workers.remember("workers-b", OLD, NEW)
    workers.remember("workers-c", OLD)
    return workers


def test_only_nodes_that_missed_the_newest_release_are_deployed_with_it(workers: Workers) -> None:
    workers.run()
    assert workers.deployed == [("C", "v2")]


def test_with_a_tag_nodes_that_run_another_one_are_deployed(workers: Workers) -> None:
    workers.run("--tag", "v1")
    assert workers.deployed == [("B", "v1")]


def test_if_no_node_is_behind_nothing_is_done(workers: Workers) -> None:
    workers.remember("workers-c", NEW)
    assert workers.run().output == "Nothing was changed: no node is behind.\n"
    document = json.loads(workers.run("--json").output)
    assert (document["ok"], document["changed"], document["hosts"]) == (True, False, [])
    assert workers.plans == []


def test_a_dry_run_connects_to_no_host_and_so_cannot_know_which_are_behind(
    workers: Workers,
) -> None:
    with pytest.raises(UsageError, match="--dry-run connects to none"):
        workers.run("--dry-run")
    assert workers.transport.runs == []


def test_a_deploy_can_be_left_to_the_hosts_and_its_confirmation_limited(workers) -> None:
    workers.remember("backend", NEW)
    workers.remember("workers-b", OLD)
    workers.remember("workers-c", NEW)
    workers.run("--detach", "--confirm-within", "90")
    (plan,) = workers.plans
    assert (plan.options.is_detached, plan.options.confirm_within) == (True, 90.0)
    with pytest.raises(SystemExit):
        raise workers.run("--confirm-within", "0").exception


def run(*words: str) -> Result:
    return CliRunner().invoke(deploy, ["workers", *words])


def test_nodes_are_selected_by_tag_and_pattern(workers: Workers, tmp_path: Path) -> None:
    (tmp_path / "deploy/inventory.yml").write_text("workers: {B: {tags: [gpu]}, C: , C2: }")
    for words, nodes in ((["--on", "gpu"], ["B"]), (["C*"], ["C", "C2"])):
        workers.plans.clear()
        assert run(*words, "--tag", "v1").exit_code == 0
        assert [plan.host.node for plan in workers.plans] == nodes


def test_a_node_or_a_tag_is_required(workers: Workers) -> None:
    result = run()
    assert result.exit_code == 2
    assert "Missing argument 'NODE'" in result.output
    assert workers.plans == []


@pytest.mark.parametrize("value", ["0", "-1", "0%", "101%", "half", "1.5", "100000", "٣"])
def test_a_batch_is_a_number_or_a_percentage(workers: Workers, value: str) -> None:
    result = run("all", "--batch", value)
    assert result.exit_code == 2
    assert "neither a number of nodes nor 1% to 100%" in result.output
    assert workers.plans == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], (0, "", 0.0, "keep")),
        (["--canary", "1"], (1, "", 60.0, "keep")),
        (["--batch", "25%", "--soak", "0"], (0, "25%", 0.0, "keep")),
        (["--soak", "5", "--on-failure", "rollback"], (0, "", 5.0, "rollback")),
        (["--together"], (0, "", 0.0, "rollback")),
        (["--on-failure", "keep", "--batch", "3"], (0, "3", 60.0, "keep")),
    ],
)
def test_options_of_batches_reach_the_plans(workers: Workers, words, expected) -> None:
    assert run("B", "--tag", "v1", *words).exit_code == 0
    options = workers.plans[0].options
    assert (options.canary, options.batch, options.soak_s, options.on_failure) == expected


def test_a_dry_run_names_the_batches(workers: Workers) -> None:
    result = run("all", "--tag", "v1", "--dry-run", "--canary", "1")
    assert result.stderr.splitlines()[-2:] == ["batch 1 of 2: workers B", "batch 2 of 2: workers C"]
