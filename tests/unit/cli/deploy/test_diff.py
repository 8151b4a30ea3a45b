"""Output of `ktrdr deploy diff`."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from ktrdr.cli.deploy.diff import show, to_json
from ktrdr.deployment.deploy.comparison import Action, ServiceChange
from ktrdr.deployment.diff.changes import FileChange, HostDiff, ImageChange, SettingChange
from ktrdr.deployment.releases.checkout import CommitRange
from ktrdr.errors import HostUnreachable
from tests.unit.deployment.sample_hosts import CORE


class Release:
    tag, commit = "sha-abc1234", "abc1234" + "0" * 33


class Plan:
    release = Release


def host_diff(**fields: Any) -> HostDiff:
    # The output shows nothing else of a plan.
    return HostDiff(CORE, Plan, **fields)  # type: ignore[arg-type]


CHANGED = host_diff(
    services=(
        ServiceChange("backend", Action.RECREATED, "sha-0 → sha-abc1234"),
        ServiceChange("db", Action.UNCHANGED),
        ServiceChange("new", Action.CREATED, "does not exist yet"),
    ),
    images=(ImageChange("x/ktrdr:sha-0", "x/ktrdr:sha-abc1234", ("backend",)),),
    settings=(SettingChange("LOG_LEVEL", "DEBUG", None),),
    files=(FileChange("a.yml", b"1\n", b"2\n"), FileChange("b.yml", None, b"x\n" * 40)),
    commits={"sha-0": CommitRange(("1111111 one",), ()), "other": None},
    destructive_effects=("the database will be restarted",),
    notes=("a limit",),
)


def lines_of(*diffs: HostDiff, full: bool = False) -> list[str]:
    out = io.StringIO()
    show(Console(file=out, width=80), diffs, full=full)
    return out.getvalue().splitlines()


def test_changes_of_a_host_are_shown_from_containers_to_files() -> None:
    lines = lines_of(CHANGED)
    assert lines[:13] == [
        "core  backend.lab.test",
        "  ~ backend  to be recreated (sha-0 → sha-abc1234)",
        "  + new      to be created (does not exist yet)",
        "    unchanged: db",
        "  sha-0 → sha-abc1234: 1 commit added",
        "    1111111 one",
        "  commits from other to sha-abc1234: not known in this checkout",
        "  setting LOG_LEVEL  DEBUG → (none)",
        "  file ~ a.yml",
        "    @@ -1 +1 @@",
        "    -1",
        "    +2",
        "  file + b.yml",
    ]
    assert "    … 29 more lines; --full shows them" in lines
    assert lines[-1] == "A deploy would change core."


def test_commits_of_several_hosts_are_listed_once() -> None:
    assert lines_of(CHANGED, CHANGED).count("    1111111 one") == 1


def test_full_shows_every_line() -> None:
    assert lines_of(CHANGED, full=True).count("    +x") == 40


@pytest.mark.parametrize(
    ("diff", "last"),
    [
        (host_diff(), "Nothing would change."),
        (host_diff(error=HostUnreachable("gone", hint="Look.")),
         "Nothing would change; not compared: core."),
    ],
)  # fmt: skip
def test_the_last_line_says_which_hosts_would_change(diff, last) -> None:
    assert lines_of(diff)[-1] == last


def test_a_host_that_was_not_compared_is_shown_with_error_and_hint() -> None:
    lines = lines_of(host_diff(error=HostUnreachable("gone", hint="Look.")))
    assert lines[1:3] == ["  ✗ gone", "    → Look."]


def test_the_json_document_is_frozen() -> None:
    document = to_json([CHANGED], with_secrets=False)
    assert {key: document[key] for key in ("schema", "ok", "changed", "secrets")} == {
        "schema": 1,
        "ok": True,
        "changed": True,
        "secrets": "taken for unchanged",
    }
    (host,) = document["hosts"]
    assert host == {
        "target": "core",
        "host": "backend.lab.test",
        "tag": "sha-abc1234",
        "commit": Release.commit,
        "error": None,
        "changed": True,
        "services": [
            {"name": "backend", "action": "recreated", "reason": "sha-0 → sha-abc1234"},
            {"name": "db", "action": "unchanged", "reason": None},
            {"name": "new", "action": "created", "reason": "does not exist yet"},
        ],
        "images": [{"old": "x/ktrdr:sha-0", "new": "x/ktrdr:sha-abc1234", "services": ["backend"]}],
        "commits": {"sha-0": {"added": ["1111111 one"], "taken_back": []}, "other": None},
        "settings": [{"name": "LOG_LEVEL", "old": "DEBUG", "new": None}],
        "files": [
            {"path": "a.yml", "change": "~", "diff": ["@@ -1 +1 @@", "-1", "+2"]},
            {"path": "b.yml", "change": "+", "diff": ["@@ -0,0 +1,40 @@", *["+x"] * 40]},
        ],
        "unfinished": False,
        "losses": ["the database will be restarted"],
        "notes": ["a limit"],
    }


NEW_HOST = host_diff(
    services=(
        ServiceChange("db", Action.CREATED, "does not exist yet"),
        ServiceChange("backend", Action.CREATED, "does not exist yet"),
    ),
    settings=(SettingChange("LOG_LEVEL", None, "INFO"), SettingChange("A", None, "B")),
    files=(FileChange("b.yml", None, b"x\n" * 40),),
)


def test_a_new_host_is_a_summary() -> None:
    assert lines_of(NEW_HOST)[1:3] == [
        "  + nothing is deployed yet; to be created: db, backend",
        "    with 2 settings, 1 file; --full shows them",
    ]
    assert lines_of(NEW_HOST, full=True).count("    +x") == 40
