"""A short `make chaos-deploy`: every kind of fault once, in the lab of these tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.deploy import ground as grounds
from tests.chaos.deploy import images
from tests.chaos.deploy.cases import one_of_each
from tests.chaos.deploy.hosts import all_hosts
from tests.chaos.deploy.play import Ground
from tests.chaos.deploy.registry import BrokenRegistry
from tests.e2e.conftest import Lab

SEED = 7
# These take a minute each.
LONG = ("connection silent", "image ends after 10 s")


@pytest.fixture
def ground(lab: Lab, tmp_path: Path) -> Iterator[Ground]:
    """The tests' own stack, made ready; it is left as it was."""
    images.push_all()
    registry = BrokenRegistry()
    # A program that was killed before it was waited for would be warned of.
    env = {name: text for name, text in lab.env.items() if name != "PYTHONWARNINGS"}
    found = Ground(all_hosts(), env, lab.fields, registry, tmp_path)
    grounds.make_whole(found)
    try:
        yield found
    finally:
        registry.close()
        lab.good("deploy", "all", "--yes")


# Some twenty deploys and as many that follow them, two at a time.
@pytest.mark.timeout(1200)
def test_whatever_breaks_one_release_serves_the_lock_is_free_and_the_next_run_converges(
    ground: Ground,
) -> None:
    told: list[str] = []
    ended = grounds.run(one_of_each(SEED, leave_out=LONG), ground, told.append)
    assert [problem for each in ended for problem in each.problems] == [], "\n".join(told)
    assert sum(each.struck for each in ended) >= len(ended) - 3
