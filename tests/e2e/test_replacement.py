"""Test of replacing the backend under constant load: failed and slow requests."""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise

import pytest

from ktrdr.client.backend import BackendClient
from ktrdr.errors import KtrdrError
from ktrdr.schemas import OperationRequest, OperationType
from ktrdr.secret import Secret
from tests.e2e.conftest import Lab

EVERY_S = 0.05
# Fails quickly in a worker, because there are no such bars.
NOTHING = OperationRequest(
    operation_type=OperationType.BACKTEST,
    parameters={"symbol": "SP500", "start": "1890-01-01", "end": "1891-01-01"},
)


@dataclass
class Load:
    """Load of twenty independent requests per second.

    Attributes:
        done: When each request began, how long it took (s), and why it failed.
        submitted: The keys of what was submitted.
    """

    done: list[tuple[float, float, str]] = field(default_factory=list)
    submitted: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> list[str]:
        """Reasons of failed requests."""
        return [why for _, _, why in self.done if why]

    @property
    def gap_s(self) -> float:
        """Longest time without a successful response (s)."""
        ends = sorted(began + took for began, took, why in self.done if not why)
        return max(after - before for before, after in pairwise(ends))

    @property
    def longest_s(self) -> float:
        """Duration of the slowest successful request (s)."""
        return max(took for _, took, why in self.done if not why)

    def figures(self) -> dict[str, float]:
        """Return all figures."""
        return {
            "requests": len(self.done),
            "failed": len(self.failed),
            "gap_s": round(self.gap_s, 2),
            "longest_s": round(self.longest_s, 2),
        }


@contextmanager
def constant_load(url: str, token: Secret, *, patience_s: float) -> Iterator[Load]:
    """Send requests during the block, and two seconds before and after."""
    load, over = Load(), threading.Event()

    def one(number: int) -> None:
        began, why, key = time.monotonic(), "", uuid.uuid4().hex
        try:
            # One client per request, like separate commands.
            with BackendClient(url, token, reconnect_timeout_s=patience_s) as api:
                if number % 10:
                    api.list_operations(limit=1)
                else:
                    load.submitted[key] = api.submit(NOTHING, idempotency_key=key).operation_id
        except KtrdrError as error:
            why = error.message
        load.done.append((began, time.monotonic() - began, why))

    def tick(pool: ThreadPoolExecutor) -> None:
        number, due = 0, time.monotonic()
        while not over.is_set():
            pool.submit(one, number)
            number, due = number + 1, due + EVERY_S
            time.sleep(max(0.0, due - time.monotonic()))

    with ThreadPoolExecutor(400) as pool:
        ticking = threading.Thread(target=tick, args=(pool,))
        ticking.start()
        try:
            time.sleep(2)
            yield load
            time.sleep(2)
        finally:
            over.set()
            ticking.join()


@pytest.fixture
def token(lab: Lab) -> Secret:
    return Secret(lab.good("token", "create", "--role", "operator").out.strip())


def test_one_retry_covers_the_replacement_of_the_backend(
    lab: Lab, token: Secret, moving_tag: str
) -> None:
    url, figures = lab.env["KTRDR_API_URL"], {}
    for name, patience_s, tag in (("without", 0.0, moving_tag), ("with", 20.0, lab.tag)):
        with constant_load(url, token, patience_s=patience_s) as load:
            document = lab.good("deploy", "core", "backend", "--tag", tag, "--json").result
        assert document["ok"]
        figures[name] = load.figures()
        with BackendClient(url, token) as api:
            for key, operation_id in load.submitted.items():
                again = api.submit(NOTHING, idempotency_key=key)
                assert again.operation_id == operation_id, "submitted once"
        if patience_s:
            assert load.failed == []
        else:
            assert load.failed, "the backend was away"
        assert load.gap_s < 20
    sys.stdout.write(f"{json.dumps(figures)}\n")
