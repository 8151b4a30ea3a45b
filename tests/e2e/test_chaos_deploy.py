"""A short `make chaos-deploy`: every kind of fault once, in the lab of the end-to-end tests."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.deploy import images
from tests.chaos.deploy.case_run import ChaosEnvironment
from tests.chaos.deploy.cases import first_case_of_each_fault
from tests.chaos.deploy.hosts import all_hosts
from tests.chaos.deploy.registry import BrokenRegistry
from tests.chaos.deploy.runner import deploy_good_release, run_cases
from tests.e2e.conftest import Lab

SEED = 7
# These take a minute each.
LONG = ("connection silent", "image exits after 10 s")


@pytest.fixture
def chaos_environment(lab: Lab) -> Iterator[ChaosEnvironment]:
    """Provide the stack of the tests with a good release, and restore it afterwards."""
    images.push_all()
    registry = BrokenRegistry()
    # Python would warn of a subprocess that was killed before it was waited for.
    env = {name: text for name, text in lab.env.items() if name != "PYTHONWARNINGS"}
    # pytest's own directories have too long a path for ssh's sockets.
    with tempfile.TemporaryDirectory(prefix="ktrdr-chaos-") as directory:
        chaos_env = ChaosEnvironment(all_hosts(), env, lab.fields, registry, Path(directory))
        deploy_good_release(chaos_env)
        try:
            yield chaos_env
        finally:
            registry.close()
            lab.good("deploy", "all", "--yes")


# More than twenty deploys with a fault and as many without, two in parallel.
@pytest.mark.timeout(1200)
def test_after_every_fault_a_release_serves_the_lock_is_free_and_the_next_deploy_converges(
    chaos_environment: ChaosEnvironment,
) -> None:
    lines: list[str] = []
    cases = first_case_of_each_fault(SEED, leave_out=LONG)
    results = run_cases(cases, chaos_environment, lines.append)
    assert [problem for result in results for problem in result.problems] == [], "\n".join(lines)
    assert sum(result.injected for result in results) >= len(results) - 3
