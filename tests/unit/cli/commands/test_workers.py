"""`ktrdr workers`: how an operator names a worker or a node."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ktrdr.cli.commands.workers import _resolve_target
from ktrdr.errors import NotFound


@pytest.fixture
def backend() -> Any:
    """Return a backend with a worker on each of two nodes, one of them drained."""
    workers = [SimpleNamespace(worker_id="Own-Id", node="box.lan")]
    drains = [SimpleNamespace(target="workers-b.lan")]
    return SimpleNamespace(list_workers=lambda: workers, list_drains=lambda: drains)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("Own-Id", "Own-Id"),
        ("box.lan", "box.lan"),
        ("Box.LAN", "box.lan"),
        ("box", "box.lan"),
        ("Workers-B", "workers-b.lan"),
        ("B", "workers-b.lan"),
        ("workers B", "workers-b.lan"),
    ],
)
def test_a_node_is_found_by_its_first_label_and_in_any_case(backend, name, target) -> None:
    assert _resolve_target(backend, name) == target


def test_the_id_of_a_worker_must_be_exact(backend) -> None:
    with pytest.raises(NotFound, match=r"no worker or node 'own-id'; did you mean Own-Id\?"):
        _resolve_target(backend, "own-id")
