"""The check as people and programs read it."""

from __future__ import annotations

import io

from rich.console import Console

from ktrdr.cli.deploy.check_summary import show, to_json
from ktrdr.deployment.check.query import Checked
from ktrdr.deployment.hosts.problems import CheckResult, Problem

HOST = Checked(
    "core",
    "backend.lab.test",
    (
        CheckResult("SSH"),
        CheckResult("Docker", "28.1.0"),
        CheckResult("disk", "0 GiB free", (Problem("the disk is full", "Free space."),)),
        CheckResult("ports", "", (Problem("the port 1 is taken", "Free it."),
                            Problem("the port 2 is taken", "Free it."))),
        CheckResult("reaches x", remark="nobody listens there (yet)"),
    ),
)  # fmt: skip
VAULT = Checked("vault", "a", (CheckResult("b", findings=(Problem("is empty", "Fill it.", 4),)),))


def shown(*report: Checked, width: int = 80) -> list[str]:
    out = io.StringIO()
    show(Console(file=out, width=width), report)
    return out.getvalue().splitlines()


def test_what_is_well_is_one_paragraph_and_what_is_not_a_line_each_with_its_remedy() -> None:
    assert shown(HOST) == [
        "core  backend.lab.test",
        "  ✓ SSH · Docker 28.1.0",
        "  ! nobody listens there (yet)",
        "  ✗ the disk is full",
        "    → Free space.",
        "  ✗ the port 1 is taken",
        "  ✗ the port 2 is taken",
        "    → Free it.",
        "",
        "3 things are wrong; nothing was changed.",
    ]


def test_long_lines_go_on_beneath_their_beginning() -> None:
    words = Checked("core", "", tuple(CheckResult(f"point {number}") for number in range(30)))
    lines = shown(words)[1:-2]
    assert lines[0].startswith("  ✓ point 0 ·")
    assert all(line.startswith("    point ") for line in lines[1:])
    assert max(map(len, lines)) <= 80


def test_the_document_is_as_frozen() -> None:
    assert to_json([VAULT, HOST]) == {
        "schema": 1,
        "ok": False,
        "exit_code": 4,
        "hosts": [
            {
                "host": "vault",
                "about": "a",
                "points": [
                    {
                        "name": "b",
                        "ok": False,
                        "detail": None,
                        "remark": None,
                        "findings": [
                            {"complaint": "is empty", "remedy": "Fill it.", "exit_code": 4}
                        ],
                    }
                ],
            },
            to_json([HOST])["hosts"][0],
        ],
    }
