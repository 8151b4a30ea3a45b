"""Connections to PostgreSQL: the setting that the inventory needs, and the check of what runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.check import Checker
from ktrdr.deployment.homelab.connections import max_connections, required_connections
from ktrdr.deployment.homelab.inventory import Inventory, add_defaults
from ktrdr.secret import Scrubber
from tests.recording_transport import Answer, RecordingTransport
from tests.unit.deployment.conftest import SimulatedHost

QUERY = "Usage: query_database.sh"


def inventory_of(scales: list[int]) -> Inventory:
    nodes = {f"N{number}": {"scale": scale} for number, scale in enumerate(scales)}
    return Inventory.model_validate(add_defaults({"workers": nodes}))


@given(st.lists(st.integers(1, 3), max_size=40))
def test_the_setting_allows_every_busy_worker_the_backend_and_people(scales: list[int]) -> None:
    inventory = inventory_of(scales)
    workers = 2 * sum(scales)
    assert required_connections(inventory) >= 12 + 4 * workers + 3
    assert required_connections(inventory) <= max_connections(inventory)


def test_a_node_more_rarely_changes_the_setting_which_restarts_the_database() -> None:
    assert [max_connections(inventory_of([3] * nodes)) for nodes in range(9)] == [
        *(100, 100, 100, 100),
        *(200, 200, 200, 200, 300),
    ]


def test_the_core_receives_the_setting(planned) -> None:
    settings = dict(planned("core").config.settings)
    assert settings["POSTGRES_MAX_CONNECTIONS"] == "100"
    assert "POSTGRES_MAX_CONNECTIONS" not in dict(planned("workers").config.settings)


@pytest.fixture
def check(product, planned, clock):
    """Return a function that checks the core, whose database gives an answer."""

    def check(answer: Answer):
        plan = planned("core")
        transport = RecordingTransport()
        facts = SimulatedHost(plan).facts
        transport.answer(Answer(stdout="".join(f"{key}={value}\n" for key, value in facts.items())))
        transport.answer(answer, containing=QUERY)
        checker = Checker(
            product, {plan.host: plan}, FailingVault(), "a vault", transport, Scrubber(), clock
        )
        core = checker.check_all()[-1]
        return next((result for result in core.results if result.name == "connections"), None)

    return check


class FailingVault:
    """Source without secrets."""

    def fetch(self):
        return {}


def test_a_database_that_allows_too_few_connections_is_a_problem_with_a_remedy(check) -> None:
    # The inventory of the tests has six workers.
    result = check(Answer(stdout="25\n"))
    (problem,) = result.problems
    assert problem.message == (
        "the database allows 25 connections, but the backend and the workers of the inventory "
        "need up to 46"
    )
    assert "`ktrdr deploy core db`" in problem.hint
    assert "max_connections=100" in problem.hint


def test_a_database_that_allows_enough_connections_passes(check) -> None:
    result = check(Answer(stdout="50\n"))
    assert (result.detail, result.problems) == ("50 allowed, 46 needed", ())


@pytest.mark.parametrize(
    "answer", [Answer(1, stderr="the database does not run\n"), Answer(stdout="")]
)
def test_before_the_first_deploy_nothing_is_compared(check, answer) -> None:
    assert check(answer) is None
