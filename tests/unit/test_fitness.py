"""Fitness of a service: its conditions, and the progress of its background tasks."""

from __future__ import annotations

import math
import time
from functools import partial

import pytest

from ktrdr.errors import DatabaseUnavailable, HostNotReady
from ktrdr.fitness import MAX_TEXT, STALE_AFTER_S, Fitness, Progress, find_stuck


def test_the_first_problem_is_told_and_every_condition_has_its_own_since_when() -> None:
    problems: dict[str, HostNotReady | None] = {"database": None, "share": None}
    recorded: dict[str, bool] = {}
    fitness = Fitness(
        {name: partial(problems.__getitem__, name) for name in problems}, recorded.__setitem__
    )
    problem, before = fitness.evaluate()
    assert problem is None
    assert recorded == {"database": True, "share": True}
    problems["share"] = HostNotReady("no share", hint="mount it")
    problem, (database, share) = fitness.evaluate()
    assert problem
    assert (problem.kind, problem.message, problem.hint) == ("not-ready", "no share", "mount it")
    assert (database.problem, share.problem) == (None, "no share")
    assert database.since == before[0].since
    assert share.since > before[1].since
    assert recorded == {"database": True, "share": False}
    problems["share"] = HostNotReady("another reason")
    assert fitness.evaluate()[1][1].since == share.since, "it has been wrong all the time"
    problems["database"] = DatabaseUnavailable("no database")
    problem, _ = fitness.evaluate()
    assert problem
    assert problem.kind == "database-unavailable"


def test_texts_fit_into_what_docker_keeps_of_a_health_document() -> None:
    names = [f"condition {number}" for number in range(5)]
    wrong = HostNotReady("x" * 5000, hint="y" * 5000)
    fitness = Fitness({name: lambda: wrong for name in names}, lambda *_: None)
    problem, conditions = fitness.evaluate()
    assert problem
    assert len(problem.message) == len(problem.hint or "") == MAX_TEXT
    texts = [problem.model_dump_json(), *(each.model_dump_json() for each in conditions)]
    assert sum(map(len, texts)) < 3000


def test_a_task_is_stuck_without_progress_and_after_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    task, patient = Progress("the feed"), Progress("the update", math.inf)
    assert find_stuck([task, patient]) is None
    now += STALE_AFTER_S + 1
    stuck = find_stuck([task, patient])
    assert stuck
    assert stuck.message == "the feed made no progress for 11 s"
    task.made()
    patient.failed("no disk")
    stuck = find_stuck([task, patient])
    assert stuck
    assert stuck.message == "the update failed (no disk)"
    now += STALE_AFTER_S
    task.made()
    assert find_stuck([task, patient])
    now += STALE_AFTER_S
    task.made()
    assert find_stuck([task, patient]) is None, "it was started again, and works"
