"""Output of `ktrdr deploy check`."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from ktrdr.cli.deploy.check import show, to_json
from ktrdr.deployment.check import CheckedSubject
from ktrdr.deployment.hosts.problems import CheckResult, Problem

HOST = CheckedSubject(
    "core",
    "backend.lab.test",
    (
        CheckResult("SSH"),
        CheckResult("Docker", "28.1.0"),
        CheckResult("disk", "0 GiB free", (Problem("the disk is full", "Free space."),)),
        CheckResult("ports", "", (Problem("the port 1 is in use", "Free it."),
                                  Problem("the port 2 is in use", "Free it."))),
        CheckResult("reaches x", note="nothing listens there (yet)"),
    ),
)  # fmt: skip
EMPTY_FIELD = CheckResult("b", problems=(Problem("b is empty", "Fill it.", 4),))
VAULT = CheckedSubject("vault", "a", (EMPTY_FIELD,))


def lines_of(*report: CheckedSubject, width: int = 80) -> list[str]:
    out = io.StringIO()
    show(Console(file=out, width=width), report)
    return out.getvalue().splitlines()


def test_good_results_share_a_paragraph_and_each_problem_has_a_line_and_a_hint() -> None:
    assert lines_of(HOST) == [
        "core  backend.lab.test",
        "  ✓ SSH · Docker 28.1.0",
        "  ! nothing listens there (yet)",
        "  ✗ the disk is full",
        "    → Free space.",
        "  ✗ the port 1 is in use",
        "  ✗ the port 2 is in use",
        "    → Free it.",
        "",
        "3 problems found; nothing was changed.",
    ]


@pytest.mark.parametrize(
    ("subject", "last"),
    [
        (VAULT, "1 problem found; nothing was changed."),
        (CheckedSubject("core", "", ()), "No problems found: a deploy can start."),
    ],
)
def test_the_last_line_says_whether_a_deploy_can_start(subject, last) -> None:
    assert lines_of(subject)[-1] == last


def test_long_lines_are_wrapped_and_indented() -> None:
    results = tuple(CheckResult(f"point {number}") for number in range(30))
    lines = lines_of(CheckedSubject("core", "", results))[1:-2]
    assert lines[0].startswith("  ✓ point 0 ·")
    assert all(line.startswith("    point ") for line in lines[1:])
    assert max(map(len, lines)) <= 80


def test_the_json_document_is_frozen() -> None:
    assert to_json([VAULT, HOST]) == {
        "schema": 1,
        "ok": False,
        "exit_code": 4,
        "places": [
            {
                "place": "vault",
                "about": "a",
                "points": [
                    {
                        "name": "b",
                        "ok": False,
                        "detail": None,
                        "remark": None,
                        "findings": [
                            {"complaint": "b is empty", "remedy": "Fill it.", "exit_code": 4}
                        ],
                    }
                ],
            },
            to_json([HOST])["places"][0],
        ],
    }
