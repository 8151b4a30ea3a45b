"""An operation gets an error for lack of memory before its container is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ktrdr.workers.memory import child_memory_limit

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("memory.max", f"{3072 * MIB}\n", (3072 - 256) * MIB),
        ("memory.max", "max\n", 0),
        ("memory/memory.limit_in_bytes", f"{5120 * MIB}\n", (5120 - 256) * MIB),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", 0),
        ("other", "", 0),
    ],
)
def test_the_limit_is_that_of_the_container_minus_the_workers_share(
    tmp_path: Path, name: str, content: str, expected: int
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    assert child_memory_limit(None, control_groups=tmp_path) == expected


def test_the_configured_limit_takes_precedence(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000000\n")
    assert child_memory_limit(512, control_groups=tmp_path) == 512 * MIB


def test_an_allocation_beyond_the_limit_raises_an_error_that_can_be_caught() -> None:
    program = (
        "from ktrdr.workers.memory import limit_memory\n"
        "limit_memory(300 * 1024 * 1024)\n"
        "bytearray(100 * 1024 * 1024)\n"
        "try:\n    bytearray(400 * 1024 * 1024)\nexcept MemoryError:\n    print('refused')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "refused\n"
