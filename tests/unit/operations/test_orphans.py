"""Removal of orphans: what killed workers left behind is deleted, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from ktrdr.operations.orphans import delete_orphans, find_operation_files, select_orphans
from ktrdr.schemas import OperationStatus

OP = "op_backtest_20261123_164500_1a2b3c4d"
OTHER = "op_training_20261123_164500_5e6f7a8b"
ATTEMPTS = [f"results/.{OP}.1", f"results/.{OP}.2", f"checkpoints/.{OP}.2"]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    for name in (
        *ATTEMPTS,
        f"results/{OP.removeprefix('op_')}",
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


def paths_in(shared: Path) -> set[Path]:
    return {
        path
        for directory in ("results", "checkpoints", "logs", "data")
        for path in shared.glob(f"{directory}/*")
    }


@pytest.mark.parametrize(
    ("status", "epoch", "orphans"),
    [
        (OperationStatus.RUNNING, 2, [f"results/.{OP}.1"]),
        (OperationStatus.PENDING, 3, ATTEMPTS),
        (OperationStatus.FAILED, 2, ATTEMPTS),
        (OperationStatus.COMPLETED, 2, [*ATTEMPTS, f"checkpoints/{OP}", f"logs/{OP}.log"]),
    ],
)
def test_only_files_that_the_operation_no_longer_needs_are_deleted(
    shared: Path, status: OperationStatus, epoch: int, orphans: list[str]
) -> None:
    before = paths_in(shared)
    selected = select_orphans(find_operation_files(shared), {OP: (status, epoch)})
    assert sorted(file.path for file in selected) == sorted(shared / name for name in orphans)
    delete_orphans(selected)
    assert before - paths_in(shared) == {file.path for file in selected}


def test_files_of_an_unknown_operation_are_kept(shared: Path) -> None:
    assert select_orphans(find_operation_files(shared), {}) == []


def test_a_new_shared_directory_has_no_files(tmp_path: Path) -> None:
    assert find_operation_files(tmp_path) == []
