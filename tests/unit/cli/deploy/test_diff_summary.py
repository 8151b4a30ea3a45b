"""The differences as people and programs read them."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from ktrdr.cli.deploy.diff_summary import show, to_json
from ktrdr.deployment.deploy.comparison import Action, ServiceChange
from ktrdr.deployment.diff.changes import Difference, FileChange, ImageChange, SettingChange
from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.releases.checkout import CommitRange
from ktrdr.errors import HostUnreachable

CORE = Place("core", "", "backend.lab.test", "/opt/ktrdr-core")


class Release:
    tag, commit = "sha-abc1234", "abc1234" + "0" * 33


class Plan:
    release = Release


def difference(**more: Any) -> Difference:
    return Difference(CORE, Plan, **more)  # type: ignore[arg-type]  # all that is shown of a plan


CHANGED = difference(
    services=(
        ServiceChange("backend", Action.RECREATED, "sha-0 → sha-abc1234"),
        ServiceChange("db", Action.UNCHANGED),
        ServiceChange("new", Action.CREATED, "is not there yet"),
    ),
    images=(ImageChange("x/ktrdr:sha-0", "x/ktrdr:sha-abc1234", ("backend",)),),
    settings=(SettingChange("LOG_LEVEL", "DEBUG", None),),
    files=(FileChange("a.yml", b"1\n", b"2\n"), FileChange("b.yml", None, b"x\n" * 40)),
    commits={"sha-0": CommitRange(("1111111 one",), ()), "other": None},
    losses=("the database is restarted",),
    notes=("something is not known",),
)


def shown(*found: Difference, full: bool = False) -> list[str]:
    out = io.StringIO()
    show(Console(file=out, width=80), found, full=full)
    return out.getvalue().splitlines()


def test_a_host_that_would_change_is_shown_from_containers_to_files() -> None:
    lines = shown(CHANGED)
    assert lines[:13] == [
        "core  backend.lab.test",
        "  ~ backend  to be recreated (sha-0 → sha-abc1234)",
        "  + new      to be created (is not there yet)",
        "    unchanged: db",
        "  sha-0 → sha-abc1234: 1 commit more",
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


def test_commits_that_come_to_several_hosts_are_listed_once() -> None:
    assert shown(CHANGED, CHANGED).count("    1111111 one") == 1


def test_full_leaves_nothing_out() -> None:
    assert shown(CHANGED, full=True).count("    +x") == 40


@pytest.mark.parametrize(
    ("found", "last"),
    [
        (difference(), "Nothing would change."),
        (difference(error=HostUnreachable("gone", hint="Look.")),
         "Nothing would change; not compared: core."),
    ],
)  # fmt: skip
def test_the_last_line_says_what_would_come_of_a_deploy(found, last) -> None:
    assert shown(found)[-1] == last


def test_a_host_that_was_not_compared_is_shown_with_its_reason_and_remedy() -> None:
    lines = shown(difference(error=HostUnreachable("gone", hint="Look.")))
    assert lines[1:3] == ["  ✗ gone", "    → Look."]


def test_the_document_is_as_frozen() -> None:
    document = to_json([CHANGED], asked=False)
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
            {"name": "new", "action": "created", "reason": "is not there yet"},
        ],
        "images": [{"old": "x/ktrdr:sha-0", "new": "x/ktrdr:sha-abc1234", "services": ["backend"]}],
        "commits": {"sha-0": {"added": ["1111111 one"], "taken_back": []}, "other": None},
        "settings": [{"name": "LOG_LEVEL", "old": "DEBUG", "new": None}],
        "files": [
            {"path": "a.yml", "change": "~", "diff": ["@@ -1 +1 @@", "-1", "+2"]},
            {"path": "b.yml", "change": "+", "diff": ["@@ -0,0 +1,40 @@", *["+x"] * 40]},
        ],
        "unfinished": False,
        "losses": ["the database is restarted"],
        "notes": ["something is not known"],
    }
