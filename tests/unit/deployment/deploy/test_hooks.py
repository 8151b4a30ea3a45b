"""Hooks as real programs: their environment, their output, and the effect of their failure."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ktrdr.deployment.deploy import hooks
from ktrdr.deployment.deploy.hooks import DIRECTORY, Hook, HookFacts, Hooks
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
    reason="backend keeps restarting",
)
PASSWORD = "hunter2-hunter2"
ENVIRONMENT = f"{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"


class HookCheckout:
    """Checkout with hooks, and the lines that they print."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.lines: list[tuple[Hook, str]] = []
        (root / DIRECTORY).mkdir(parents=True)

    def add(self, hook: Hook, script: str, mode: int = 0o755) -> None:
        file = self.root / DIRECTORY / hook
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(mode)

    def hooks(self, **changes) -> Hooks:
        return Hooks(
            root=self.root,
            settings=HookSettings(**changes.pop("settings", {})),
            environ={**os.environ, "TOKEN": "of-the-operator", **changes.pop("environ", {})},
            on_line=lambda hook, line: self.lines.append((hook, line)),
            scrubber=Scrubber([Secret(PASSWORD)]),
            secrets={"db_password": Secret(PASSWORD), "jwt_secret": Secret("x" * 40)},
        )

    def environment(self, **changes) -> dict[str, str]:
        """Return the environment of a hook."""
        self.add(Hook.NOTIFY, f"{ENVIRONMENT} >environment")
        result = self.hooks(**changes).run(Hook.NOTIFY, FACTS)
        assert result
        assert result.is_good
        environment: dict[str, str] = json.loads((self.root / "environment").read_text())
        return environment


@pytest.fixture
def checkout(tmp_path: Path) -> HookCheckout:
    return HookCheckout(tmp_path)


def test_without_hooks_nothing_happens(checkout: HookCheckout) -> None:
    hooks = checkout.hooks()
    hooks.run_pre_deploy(FACTS)
    assert hooks.run_final(FACTS) == []
    assert all(hooks.run(hook, FACTS) is None for hook in Hook)
    assert checkout.lines == []


def test_a_hook_receives_all_facts_about_the_deploy(checkout: HookCheckout) -> None:
    environment = checkout.environment()
    assert {name: text for name, text in environment.items() if name.startswith("KTRDR_")} == {
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
        "KTRDR_REASON": "backend keeps restarting",
        "KTRDR_SKIPPED": "",
    }


def test_a_hook_receives_no_secret_by_default(checkout: HookCheckout) -> None:
    secrets = {
        "OP_SESSION_x": PASSWORD,
        "KTRDR_SECRET_DB_PASSWORD": PASSWORD,
        "KTRDR_TOKEN": "t" * 20,
    }
    environment = checkout.environment(environ=secrets)
    assert PASSWORD not in json.dumps(environment)
    assert not {"TOKEN", "KTRDR_TOKEN", "OP_SESSION_x"} & environment.keys()
    assert environment["PATH"] == os.environ["PATH"]


def test_a_hook_receives_the_variables_and_secrets_that_the_inventory_names(
    checkout: HookCheckout,
) -> None:
    environment = checkout.environment(
        settings={"environment": ["TOKEN"], "secrets": ["db_password"]}
    )
    assert environment["TOKEN"] == "of-the-operator"
    assert environment["KTRDR_SECRET_DB_PASSWORD"] == PASSWORD
    assert "KTRDR_SECRET_JWT_SECRET" not in environment


def test_a_hook_receives_a_further_field_of_the_inventory(checkout: HookCheckout) -> None:
    hooks = checkout.hooks(settings={"secrets": ["broker_api_key"]})
    hooks = replace(hooks, secrets={"broker_api_key": Secret("k3y")})
    environment = hooks.environment(Hook.NOTIFY, FACTS)
    assert environment["KTRDR_SECRET_BROKER_API_KEY"] == "k3y"


def test_a_hook_runs_in_the_checkout(checkout: HookCheckout) -> None:
    checkout.add(Hook.POST_DEPLOY, "pwd -P")
    checkout.hooks().run(Hook.POST_DEPLOY, FACTS)
    assert checkout.lines == [(Hook.POST_DEPLOY, str(checkout.root.resolve()))]


def test_the_output_of_a_hook_is_shown_without_secrets(checkout: HookCheckout) -> None:
    checkout.add(Hook.ON_FAILURE, f"echo one; echo '{PASSWORD}' >&2; printf 'no end'")
    checkout.hooks().run(Hook.ON_FAILURE, FACTS)
    assert [line for _, line in checkout.lines] == ["one", "•••", "no end"]


def test_a_failed_pre_deploy_hook_refuses_the_deploy_with_its_last_line(
    checkout: HookCheckout,
) -> None:
    checkout.add(Hook.PRE_DEPLOY, f"echo 'it is Friday, {PASSWORD}'; echo; exit 3")
    with pytest.raises(Conflict) as refused:
        checkout.hooks().run_pre_deploy(FACTS)
    assert refused.value.message == (
        "the deploy was refused: the hook .ktrdr/hooks/pre-deploy exited with code 3: "
        "it is Friday, •••"
    )


def test_a_pre_deploy_hook_that_cannot_be_run_is_an_error(checkout: HookCheckout) -> None:
    checkout.add(Hook.PRE_DEPLOY, "exit 0", mode=0o644)
    with pytest.raises(ConfigurationError, match="cannot be run: Permission denied") as refused:
        checkout.hooks().run_pre_deploy(FACTS)
    assert "chmod +x .ktrdr/hooks/pre-deploy" in (refused.value.hint or "")
    (checkout.root / DIRECTORY / Hook.PRE_DEPLOY).unlink()
    (checkout.root / DIRECTORY / Hook.PRE_DEPLOY).symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match="No such file"):
        checkout.hooks().run_pre_deploy(FACTS)


def test_other_hooks_only_cause_warnings(checkout: HookCheckout) -> None:
    checkout.add(Hook.NOTIFY, "echo the pager is down; exit 1")
    assert checkout.hooks().run_final(FACTS) == [
        "the hook .ktrdr/hooks/notify exited with code 1: the pager is down"
    ]
    checkout.add(Hook.NOTIFY, "exit 0", mode=0o644)
    (warning,) = checkout.hooks().run_final(FACTS)
    assert "cannot be run" in warning


def test_a_hook_that_takes_too_long_is_ended_with_all_its_processes(
    checkout: HookCheckout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "_GRACE_S", 0.2)
    checkout.add(Hook.NOTIFY, "trap '' TERM; sleep 60 & echo $! >child; wait; sleep 60")
    began = time.monotonic()
    result = checkout.hooks(settings={"timeout_s": 1}).run(Hook.NOTIFY, FACTS)
    assert time.monotonic() - began < 10
    assert result
    assert result.exit_code is None
    assert "timed out after" in str(result)
    child = Path("/proc") / (checkout.root / "child").read_text().strip() / "stat"
    # A killed process remains until its new parent collects it.
    while time.monotonic() - began < 20 and child.exists():
        time.sleep(0.1)
        if child.exists() and child.read_text().rpartition(")")[2].split()[0] == "Z":
            break
    else:
        assert not child.exists()


def test_the_deploy_does_not_wait_for_a_background_process_of_a_hook(
    checkout: HookCheckout,
) -> None:
    checkout.add(Hook.NOTIFY, "sleep 3 &")
    began = time.monotonic()
    result = checkout.hooks().run(Hook.NOTIFY, FACTS)
    assert time.monotonic() - began < 2
    assert result
    assert result.is_good


def test_the_final_hooks_depend_on_the_outcome(checkout: HookCheckout, planned) -> None:
    for hook in (Hook.POST_DEPLOY, Hook.ON_FAILURE, Hook.NOTIFY):
        checkout.add(hook, 'echo "$KTRDR_OUTCOME $KTRDR_REASON"')
    before = HookFacts.of([planned("core"), planned("workers")])
    assert before.targets == ("core", "workers B")
    assert (before.outcome, before.duration_s) == ("", None)
    result = DeployResult("r", (HostResult(planned(), DeployOutcome.DEPLOYED),), 3.0, 1, 4)
    assert checkout.hooks().run_final(before.with_result(result)) == []
    assert checkout.lines == [(Hook.POST_DEPLOY, "deployed "), (Hook.NOTIFY, "deployed ")]
    checkout.lines.clear()
    checkout.add(Hook.NOTIFY, "exit 9")
    (warning,) = checkout.hooks().run_final(before.with_error(Interrupted("stopped"), 2.0))
    assert checkout.lines == [(Hook.ON_FAILURE, "interrupted stopped")]
    assert warning == "the hook .ktrdr/hooks/notify exited with code 9"


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.text())
def test_a_hook_receives_any_reason_without_its_null_characters(
    checkout: HookCheckout, text: str
) -> None:
    hooks = checkout.hooks()
    facts = HookFacts("r", "deploy", "t", "", "all", (), (), "w", reason=text)
    checkout.add(Hook.NOTIFY, 'printf %s "$KTRDR_REASON" >reason')
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert hooks.run(Hook.NOTIFY, facts)
    assert (checkout.root / "reason").read_bytes() == text.replace("\0", "").encode()
