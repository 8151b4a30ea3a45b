"""Hooks as real programs: what they are told, what they may do, and what is shown of them."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.deployment.deploy.hooks import (
    DIRECTORY,
    Hook,
    HookFacts,
    Hooks,
    concluded,
    facts_of,
    failed,
)
from ktrdr.deployment.deploy.result import DeployResult, HostResult
from ktrdr.deployment.homelab.inventory import HookSettings
from ktrdr.deployment.hosts.history import DeployOutcome
from ktrdr.errors import ConfigurationError, Conflict, Interrupted
from ktrdr.secret import Scrubber, Secret

FACTS = HookFacts(
    release="20261124-060000-ab12",
    kind="deploy",
    tag="sha-abc1234",
    commit="abc1234" + "0" * 33,
    service="all",
    targets=("core", "workers B"),
    hosts=("backend.lab.test", "workers-b.lab.test"),
    performer="ada@laptop",
    outcome="failed",
    duration_s=12.345,
    reason="backend ends again and again",
)
PASSWORD = "hunter2-hunter2"
ENVIRONMENT = f"{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"


class Ground:
    """A checkout with hooks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[tuple[Hook, str]] = []
        (root / DIRECTORY).mkdir(parents=True)

    def has(self, hook: Hook, script: str, mode: int = 0o755) -> None:
        file = self.root / DIRECTORY / hook
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(mode)

    def hooks(self, **changes) -> Hooks:
        return Hooks(
            root=self.root,
            settings=HookSettings(**changes.pop("settings", {})),
            environ={**os.environ, "TOKEN": "of-the-operator", **changes.pop("environ", {})},
            tell=lambda hook, line: self.lines.append((hook, line)),
            scrubber=Scrubber([Secret(PASSWORD)]),
            secrets={"db_password": Secret(PASSWORD), "jwt_secret": Secret("x" * 40)},
        )

    def environment(self, **changes) -> dict[str, str]:
        """What a hook finds in its environment."""
        self.has(Hook.NOTIFY, f"{ENVIRONMENT} >environment")
        ended = self.hooks(**changes).run(Hook.NOTIFY, FACTS)
        assert ended
        assert ended.is_good
        found: dict[str, str] = json.loads((self.root / "environment").read_text())
        return found


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    return Ground(tmp_path)


def test_without_hooks_nothing_happens(ground: Ground) -> None:
    hooks = ground.hooks()
    hooks.ask(FACTS)
    assert all(hooks.warn(hook, FACTS) is None for hook in Hook)


def test_a_hook_is_told_all_about_the_release(ground: Ground) -> None:
    found = ground.environment()
    assert {name: text for name, text in found.items() if name.startswith("KTRDR_")} == {
        "KTRDR_HOOK": "notify",
        "KTRDR_RELEASE": "20261124-060000-ab12",
        "KTRDR_KIND": "deploy",
        "KTRDR_TAG": "sha-abc1234",
        "KTRDR_COMMIT": FACTS.commit,
        "KTRDR_SERVICE": "all",
        "KTRDR_TARGETS": "core, workers B",
        "KTRDR_HOSTS": "backend.lab.test workers-b.lab.test",
        "KTRDR_PERFORMER": "ada@laptop",
        "KTRDR_OUTCOME": "failed",
        "KTRDR_DURATION_S": "12.3",
        "KTRDR_REASON": "backend ends again and again",
    }


def test_a_hook_gets_no_secret_that_was_not_asked_for(ground: Ground) -> None:
    odd = {"OP_SESSION_x": PASSWORD, "KTRDR_SECRET_DB_PASSWORD": PASSWORD, "KTRDR_TOKEN": "t" * 20}
    found = ground.environment(environ=odd)
    assert PASSWORD not in json.dumps(found)
    assert not {"TOKEN", "KTRDR_TOKEN", "OP_SESSION_x"} & found.keys()
    assert found["PATH"] == os.environ["PATH"]


def test_what_the_inventory_names_is_given(ground: Ground) -> None:
    found = ground.environment(settings={"environment": ["TOKEN"], "secrets": ["db_password"]})
    assert found["TOKEN"] == "of-the-operator"
    assert found["KTRDR_SECRET_DB_PASSWORD"] == PASSWORD
    assert "KTRDR_SECRET_JWT_SECRET" not in found


def test_it_runs_in_the_checkout(ground: Ground) -> None:
    ground.has(Hook.POST_DEPLOY, "pwd -P")
    ground.hooks().run(Hook.POST_DEPLOY, FACTS)
    assert ground.lines == [(Hook.POST_DEPLOY, str(ground.root.resolve()))]


def test_what_it_writes_is_shown_without_secrets(ground: Ground) -> None:
    ground.has(Hook.ON_FAILURE, f"echo one; echo '{PASSWORD}' >&2; printf 'no end'")
    ground.hooks().run(Hook.ON_FAILURE, FACTS)
    assert [line for _, line in ground.lines] == ["one", "•••", "no end"]


def test_a_pre_deploy_that_fails_vetoes_with_its_last_line(ground: Ground) -> None:
    ground.has(Hook.PRE_DEPLOY, f"echo 'it is Friday, {PASSWORD}'; echo; exit 3")
    with pytest.raises(Conflict) as vetoed:
        ground.hooks().ask(FACTS)
    assert vetoed.value.message == (
        "the hook .ktrdr/hooks/pre-deploy ended with exit code 3: it is Friday, •••, "
        "and so does not allow this deploy"
    )


def test_one_that_cannot_be_run_is_an_error_and_not_a_yes(ground: Ground) -> None:
    ground.has(Hook.PRE_DEPLOY, "exit 0", mode=0o644)
    with pytest.raises(ConfigurationError, match="cannot be run: Permission denied") as refused:
        ground.hooks().ask(FACTS)
    assert "chmod +x .ktrdr/hooks/pre-deploy" in (refused.value.hint or "")
    (ground.root / DIRECTORY / Hook.PRE_DEPLOY).unlink()
    (ground.root / DIRECTORY / Hook.PRE_DEPLOY).symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match="No such file"):
        ground.hooks().ask(FACTS)


def test_the_others_only_warn(ground: Ground) -> None:
    ground.has(Hook.NOTIFY, "echo the pager is down; exit 1")
    said = ground.hooks().warn(Hook.NOTIFY, FACTS)
    assert said == "the hook .ktrdr/hooks/notify ended with exit code 1: the pager is down"
    ground.has(Hook.NOTIFY, "exit 0", mode=0o644)
    assert "cannot be run" in (ground.hooks().warn(Hook.NOTIFY, FACTS) or "")


def test_one_that_takes_too_long_is_ended_with_all_it_has_started(ground: Ground) -> None:
    ground.has(Hook.NOTIFY, "trap '' TERM; sleep 60 & echo $! >child; wait; sleep 60")
    began = time.monotonic()
    ended = ground.hooks(settings={"timeout_s": 1}).run(Hook.NOTIFY, FACTS)
    assert time.monotonic() - began < 10
    assert ended
    assert ended.exit_code is None
    assert str(ended).endswith("when its time was up")
    child = Path("/proc") / (ground.root / "child").read_text().strip() / "stat"
    # Killed, it goes when whoever inherited it has noticed.
    while time.monotonic() - began < 20 and child.exists():
        time.sleep(0.1)
        if child.exists() and child.read_text().rpartition(")")[2].split()[0] == "Z":
            break
    else:
        assert not child.exists()


def test_one_that_leaves_something_running_is_not_waited_for(ground: Ground) -> None:
    ground.has(Hook.NOTIFY, "sleep 3 &")
    began = time.monotonic()
    ended = ground.hooks().run(Hook.NOTIFY, FACTS)
    assert time.monotonic() - began < 2
    assert ended
    assert ended.is_good


def test_at_the_end_either_success_or_failure_is_told_and_the_outcome_in_any_case(
    ground: Ground, planned
) -> None:
    for hook in (Hook.POST_DEPLOY, Hook.ON_FAILURE, Hook.NOTIFY):
        ground.has(hook, 'echo "$KTRDR_OUTCOME $KTRDR_REASON"')
    before = facts_of([planned("core"), planned("workers")])
    assert before.targets == ("core", "workers B")
    assert (before.outcome, before.duration_s) == ("", None)
    result = DeployResult("r", (HostResult(planned(), DeployOutcome.DEPLOYED),), 3.0, 1, 4)
    assert ground.hooks().conclude(concluded(before, result)) == []
    assert ground.lines == [(Hook.POST_DEPLOY, "deployed "), (Hook.NOTIFY, "deployed ")]
    ground.lines.clear()
    ground.has(Hook.NOTIFY, "exit 9")
    (warning,) = ground.hooks().conclude(failed(before, Interrupted("stopped"), 2.0))
    assert ground.lines == [(Hook.ON_FAILURE, "interrupted stopped")]
    assert warning == "the hook .ktrdr/hooks/notify ended with exit code 9"


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text())
def test_any_reason_arrives_but_for_what_no_environment_can_hold(ground: Ground, text: str) -> None:
    hooks, facts = (
        ground.hooks(),
        HookFacts("r", "deploy", "t", "", "all", (), (), "w", reason=text),
    )
    ground.has(Hook.NOTIFY, 'printf %s "$KTRDR_REASON" >reason')
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert hooks.run(Hook.NOTIFY, facts)
    assert (ground.root / "reason").read_bytes() == text.replace("\0", "").encode()
