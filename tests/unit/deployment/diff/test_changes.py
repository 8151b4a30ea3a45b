"""Changes that a deploy would make on a host."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.deploy.comparison import CONFIGURATION_CHANGED, Action, ServiceChange
from ktrdr.deployment.diff.changes import (
    FileChange,
    SettingChange,
    parse_file_changes,
    setting_changes,
    with_reason,
)
from ktrdr.deployment.releases.release import Release


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def test_file_changes_have_the_content_of_host_and_release(planned, release) -> None:
    lines = ["+ .env.core", f"~ docker-compose.core.yml {encoded(b'x')}", f"- a b {encoded(b'y')}"]
    new, other, left_over = parse_file_changes(planned(), lines)
    assert new == FileChange(".env.core", None, release.files[".env.core"])
    assert (other.marker, other.old, other.new) == (
        "~",
        b"x",
        release.files["docker-compose.core.yml"],
    )
    assert (left_over.marker, left_over.path, left_over.new) == ("-", "a b", None)


@given(st.lists(st.text(max_size=40), max_size=5))
def test_unreadable_output_is_no_error(lines) -> None:
    class Plan:
        release = Release("t", None, {})

    for change in parse_file_changes(Plan(), lines):  # type: ignore[arg-type]  # all that is used
        change.unified_diff()


def test_a_unified_diff_shows_removed_and_added_lines() -> None:
    change = FileChange("f", b"a\nb\nc\nd\ne\n", b"a\nb\nC\nd\ne\n")
    assert change.unified_diff() == ("@@ -1,5 +1,5 @@", " a", " b", "-c", "+C", " d", " e")


def test_a_binary_file_has_no_diff() -> None:
    assert FileChange("f", b"\0\1", b"\0\2").unified_diff() == ()


@pytest.mark.parametrize(
    ("line", "redacted"),
    [
        ("DB_PASSWORD=hunter2", "DB_PASSWORD=•••"),
        ("  jwt_secret: 'abc'", "  jwt_secret: •••"),
        ('"apiKey": "x"', '"apiKey": •••'),
        ("  POSTGRES_PASSWORD: ${DB_PASSWORD:-}", "  POSTGRES_PASSWORD: ${DB_PASSWORD:-}"),
        ("# Secrets come from the vault", "# Secrets come from the vault"),
        ("LOG_LEVEL=INFO", "LOG_LEVEL=INFO"),
    ],
)
def test_a_secret_in_a_file_is_redacted(line, redacted) -> None:
    assert FileChange("f", line.encode(), None).unified_diff()[-1] == f"-{redacted}"


def test_settings_of_file_and_inventory_are_compared_by_name(planned, release) -> None:
    old = FileChange(".env.core", b"LOG_LEVEL=DEBUG\nGONE=1\n", release.files[".env.core"])
    plan = planned()
    recorded = {**dict(plan.config.settings), "BACKEND_PORT": "9", "IMAGE_TAG": "sha-0000000"}
    assert list(setting_changes(plan, [old], recorded)) == [
        SettingChange("BACKEND_PORT", "9", "8000"),
        SettingChange("GONE", "1", None),
        SettingChange("LOG_LEVEL", "DEBUG", "INFO"),
    ]


def test_without_recorded_values_only_the_settings_file_is_compared(planned) -> None:
    assert list(setting_changes(planned(), [], None)) == []


def test_the_value_of_a_setting_with_a_secrets_name_is_redacted(planned) -> None:
    old = FileChange(".env.core", b"MY_TOKEN=abc\nLOG_LEVEL=INFO\n", b"")
    assert list(setting_changes(planned(), [old], None)) == [SettingChange("MY_TOKEN", "•••", None)]


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
def test_the_reason_of_a_changed_configuration_is_named_if_it_is_visible(
    planned, release, old, altered, rotated, reason
) -> None:
    name = "docker-compose.core.yml"
    files = [FileChange(name, old, release.files[name])] if old else []
    change = with_reason(planned(), CHANGED, files, altered, is_rotated=rotated)
    assert change.reason == reason


def test_a_changed_file_that_a_service_mounts_is_a_reason(planned, release) -> None:
    name = "docker-compose.core.yml"
    release.files[name] = release.files[name].replace(
        b"    depends_on", b'    volumes: ["./monitoring:/etc/x:ro"]\n    depends_on'
    )
    files = [FileChange("monitoring/rules.yml", b"a", b"b"), FileChange("deploy/x", b"", b"")]
    change = with_reason(planned(), CHANGED, files, [])
    assert change.reason == "changed: monitoring/rules.yml"


@pytest.mark.parametrize("name", ["deploy/node/workers.yml", "deploy/fields/workers.yml"])
def test_what_a_node_has_of_its_own_is_a_reason(planned, name) -> None:
    own = b'{"services": {"backtest-worker-1": {"environment": {"A": "x"}}}}'
    change = ServiceChange("backtest-worker-1", Action.RECREATED, CONFIGURATION_CHANGED)
    plan = planned("workers")
    reason = with_reason(plan, change, [FileChange(name, own, None)], []).reason
    assert reason == f"changed: its definition in {name}"
    plan = replace(plan, release=plan.release.with_host_files("workers", {name: own}))
    reason = with_reason(plan, change, [FileChange(name, None, own)], []).reason
    assert reason == f"changed: its definition in {name}"


def test_any_other_reason_is_kept(planned) -> None:
    change = ServiceChange("backend", Action.RECREATED, "a → b")
    assert with_reason(planned(), change, [], ["IMAGE_NAME"]) == change
