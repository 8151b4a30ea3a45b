"""What killed workers left behind goes, and nothing else does."""

from __future__ import annotations

from pathlib import Path

import pytest

from ktrdr.operations.leftovers import find, remove, stale
from ktrdr.schemas import OperationStatus

OP = "op_backtest_20261123_164500_1a2b3c4d"
OTHER = "op_training_20261123_164500_5e6f7a8b"
ATTEMPTS = [f"results/.{OP}.1", f"results/.{OP}.2", f"checkpoints/.{OP}.2"]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    for name in (
        f"results/.{OP}.1",
        f"results/.{OP}.2",
        f"results/{OP.removeprefix('op_')}",
        f"checkpoints/.{OP}.2",
        f"checkpoints/{OP}/1-5",
        f"checkpoints/{OTHER}/1-1",
        "results/.hidden",
        "results/mine",
        "data/SP500",
    ):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / f"{OP}.log").write_text("it began\n")
    return tmp_path


def directories(shared: Path) -> set[Path]:
    return {
        path
        for place in ("results", "checkpoints", "logs", "data")
        for path in shared.glob(f"{place}/*")
    }


@pytest.mark.parametrize(
    ("status", "epoch", "gone"),
    [
        (OperationStatus.RUNNING, 2, [f"results/.{OP}.1"]),
        (
            OperationStatus.PENDING,
            3,
            [f"results/.{OP}.1", f"results/.{OP}.2", f"checkpoints/.{OP}.2"],
        ),
        (
            OperationStatus.FAILED,
            2,
            [f"results/.{OP}.1", f"results/.{OP}.2", f"checkpoints/.{OP}.2"],
        ),
        (OperationStatus.COMPLETED, 2, [*ATTEMPTS, f"checkpoints/{OP}", f"logs/{OP}.log"]),
    ],
)
def test_what_nobody_can_need_any_more_is_removed(
    shared: Path, status: OperationStatus, epoch: int, gone: list[str]
) -> None:
    before = directories(shared)
    found = stale(find(shared), {OP: (status, epoch)})
    assert sorted(each.path for each in found) == sorted(shared / name for name in gone)
    remove(found)
    assert before - directories(shared) == {each.path for each in found}


def test_what_belongs_to_an_unknown_operation_stays(shared: Path) -> None:
    assert stale(find(shared), {}) == []


def test_a_shared_directory_that_is_new_has_nothing(tmp_path: Path) -> None:
    assert find(tmp_path) == []
