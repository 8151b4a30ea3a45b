"""What a release differs in from what is on a host."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.deploy.comparison import CONFIGURATION_CHANGED, Action, ServiceChange
from ktrdr.deployment.diff import changes as difference
from ktrdr.deployment.diff.changes import FileChange, SettingChange
from ktrdr.deployment.releases.release import Release


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_files_are_read_with_what_is_there_and_what_is_to_come(planned, release) -> None:
    lines = ["+ .env.core", f"~ docker-compose.core.yml {encoded(b'x')}", f"- a b {encoded(b'y')}"]
    new, other, left_over = difference.files(planned(), lines)
    assert new == FileChange(".env.core", None, release.files[".env.core"])
    assert (other.sign, other.old, other.new) == (
        "~",
        b"x",
        release.files["docker-compose.core.yml"],
    )
    assert (left_over.sign, left_over.path, left_over.new) == ("-", "a b", None)


@given(st.lists(st.text(max_size=40), max_size=5))
def test_whatever_a_host_prints_is_read_without_a_complaint(lines) -> None:
    class Plan:
        release = Release("t", None, {})

    for change in difference.files(Plan(), lines):  # type: ignore[arg-type]  # all that is used
        change.diff()


def test_a_unified_diff_shows_what_goes_and_what_comes() -> None:
    change = FileChange("f", b"a\nb\nc\nd\ne\n", b"a\nb\nC\nd\ne\n")
    assert change.diff() == ("@@ -1,5 +1,5 @@", " a", " b", "-c", "+C", " d", " e")


def test_what_is_no_text_has_no_lines() -> None:
    assert FileChange("f", b"\0\1", b"\0\2").diff() == ()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("DB_PASSWORD=hunter2", "DB_PASSWORD=•••"),
        ("  jwt_secret: 'abc'", "  jwt_secret: •••"),
        ('"apiKey": "x"', '"apiKey": •••'),
        ("  POSTGRES_PASSWORD: ${DB_PASSWORD:-}", "  POSTGRES_PASSWORD: ${DB_PASSWORD:-}"),
        ("# Secrets come from the vault", "# Secrets come from the vault"),
        ("LOG_LEVEL=INFO", "LOG_LEVEL=INFO"),
    ],
)
def test_a_secret_that_somebody_left_in_a_file_is_veiled(line, shown) -> None:
    assert FileChange("f", line.encode(), None).diff()[-1] == f"-{shown}"


def test_settings_of_files_and_inventory_are_compared_by_name(planned, release) -> None:
    old = FileChange(".env.core", b"LOG_LEVEL=DEBUG\nGONE=1\n", release.files[".env.core"])
    plan = planned()
    recorded = {**dict(plan.config.settings), "BACKEND_PORT": "9", "IMAGE_TAG": "sha-0000000"}
    assert list(difference.settings(plan, [old], recorded)) == [
        SettingChange("BACKEND_PORT", "9", "8000"),
        SettingChange("GONE", "1", None),
        SettingChange("LOG_LEVEL", "DEBUG", "INFO"),
    ]


def test_without_a_record_only_the_file_of_settings_is_compared(planned) -> None:
    assert list(difference.settings(planned(), [], None)) == []


def test_the_value_of_a_setting_that_is_called_a_secret_is_not_shown(planned) -> None:
    old = FileChange(".env.core", b"MY_TOKEN=abc\nLOG_LEVEL=INFO\n", b"")
    assert list(difference.settings(planned(), [old], None)) == [
        SettingChange("MY_TOKEN", "•••", None)
    ]


CHANGED = ServiceChange("backend", Action.RECREATED, CONFIGURATION_CHANGED)


@pytest.mark.parametrize(
    ("old", "altered", "rotated", "reason"),
    [
        (b"services: {backend: {image: x}}", [], False,
         "changed: its definition in docker-compose.core.yml"),
        (None, ["IMAGE_NAME", "UNUSED"], False, "changed: IMAGE_NAME"),
        (None, [], True, "changed: its secrets"),
        (None, [], False, CONFIGURATION_CHANGED),
        (b"{not yaml", [], False, "changed: its definition in docker-compose.core.yml"),
    ],
)  # fmt: skip
def test_why_a_configuration_is_another_is_said_as_far_as_it_can_be_seen(
    planned, release, old, altered, rotated, reason
) -> None:
    name = "docker-compose.core.yml"
    files = [FileChange(name, old, release.files[name])] if old else []
    said = difference.explained(planned(), CHANGED, files, altered, rotated=rotated)
    assert said.reason == reason


def test_a_file_that_a_service_has_mounted_is_a_reason(planned, release) -> None:
    name = "docker-compose.core.yml"
    release.files[name] = release.files[name].replace(
        b"    depends_on", b'    volumes: ["./monitoring:/etc/x:ro"]\n    depends_on'
    )
    files = [FileChange("monitoring/rules.yml", b"a", b"b"), FileChange("deploy/x", b"", b"")]
    said = difference.explained(planned(), CHANGED, files, [])
    assert said.reason == "changed: monitoring/rules.yml"


def test_another_reason_is_left_as_it_is(planned) -> None:
    change = ServiceChange("backend", Action.RECREATED, "a → b")
    assert difference.explained(planned(), change, [], ["IMAGE_NAME"]) == change
