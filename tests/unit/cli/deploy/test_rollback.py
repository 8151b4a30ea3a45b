"""`ktrdr deploy rollback`: the plans that it makes."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from ktrdr.deployment.hosts.history import DeployKind
from ktrdr.deployment.releases.release import Release, pack_archive
from ktrdr.errors import NotFound
from tests.unit.cli.deploy.conftest import CORE, B, DeployCommand
from tests.unit.deployment.conftest import CORE as CORE_FILE
from tests.unit.deployment.conftest import WORKERS as WORKERS_FILE
from tests.unit.deployment.histories import history_entry, history_lines


@pytest.fixture
def with_releases(command: DeployCommand) -> Callable[..., DeployCommand]:
    """Let the hosts keep two releases; changes are those of the last one."""

    def keep_releases(**changes: Any) -> DeployCommand:
        content = {
            "docker-compose.core.yml": CORE_FILE.encode(),
            "docker-compose.workers.yml": WORKERS_FILE.encode(),
            ".env.core": b"",
            ".env.workers": b"",
        }
        configuration = Release("x", None, content).configuration_hash
        images = {"ghcr.io/ktrdr/ktrdr-backend:sha-0000001": "sha256:one"}
        settings = {"IMAGE_TAG": "sha-0000001", "IMAGE_NAME": "ghcr.io/ktrdr/ktrdr-backend"}
        entries = [
            history_entry(
                1, "sha-0000001", images=images, settings=settings, configuration=configuration
            ),
            history_entry(2, "sha-0000002", configuration=configuration, **changes),
        ]
        archive = base64.b64encode(pack_archive(content)).decode()
        for host in (CORE, B):
            command.answer(host, "Usage: read_history.sh", *history_lines(*entries))
            command.answer(host, "Usage: read_configuration.sh", archive)
        return command

    return keep_releases


def test_without_arguments_the_previous_release_is_planned_for_each_host(with_releases) -> None:
    command = with_releases()
    result = command.run("rollback", "--skip-validation")
    assert result.exit_code == 0, result.exception
    assert [plan.host.name for plan in command.plans] == ["core", "workers B"]
    for plan in command.plans:
        assert plan.entry.kind is DeployKind.ROLLBACK
        assert (plan.release.tag, plan.entry.rolled_back_from) == ("sha-0000001", "r2")
        assert dict(plan.pinned) == {"ghcr.io/ktrdr/ktrdr-backend:sha-0000001": "sha256:one"}


def test_only_the_service_of_the_last_deploy_is_rolled_back(with_releases) -> None:
    command = with_releases(service="backend")
    command.run("rollback", "core", "--skip-validation")
    assert command.plans[0].service == "backend"


def test_a_named_release_is_redeployed_as_a_whole(with_releases) -> None:
    command = with_releases(service="backend")
    command.run("rollback", "core", "--skip-validation", "--to", "r1")
    assert command.plans[0].service == "all"


def test_an_unknown_release_is_also_reported_as_json(with_releases) -> None:
    result = with_releases().run("rollback", "core", "--to", "r7", "--json")
    assert isinstance(result.exception, NotFound)
    document = json.loads(result.stdout.splitlines()[-1])
    assert (document["event"], document["ok"]) == ("result", False)
    assert document["error"]["kind"] == "not-found"


def test_what_will_run_where_is_said_before(with_releases) -> None:
    result = with_releases(service="backend").run("rollback", "core", "--skip-validation")
    assert result.stderr.splitlines() == [
        (
            "core backend: sha-0000001 (release r1 of 2026-11-24 04:00 UTC) replaces sha-0000002 "
            "(release r2, deployed)"
        )
    ]
