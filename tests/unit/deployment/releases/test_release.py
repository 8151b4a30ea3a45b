"""Releases: tags, and the configuration that belongs to them."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.releases.release import (
    GRAFANA,
    MONITORING,
    Release,
    commit_in_tag,
    shipped_paths,
    tag_for_commit,
    validate_tag,
)
from ktrdr.errors import ConfigurationError


def test_a_tag_is_the_first_seven_characters_of_the_commit():
    assert tag_for_commit("0123456789" * 4) == "sha-0123456"
    assert commit_in_tag("sha-0123456") == "0123456"


@pytest.mark.parametrize("tag", ["latest", "sha-012345", "sha-01234567", "sha-0123456-dirty"])
def test_other_tags_name_no_commit_and_may_move(tag):
    assert commit_in_tag(tag) is None
    assert not Release(tag, None, {}).is_immutable


@pytest.mark.parametrize("tag", ["", "a b", "-x", "a:b", "a/b", "x" * 129, "é", "$(id)", "a\n"])
def test_an_invalid_tag_is_refused(tag):
    with pytest.raises(ConfigurationError, match="is not a valid image tag"):
        validate_tag(tag)


@given(st.text(max_size=20) | st.from_regex(r"(sha-)?[a-z0-9._:/@-]{0,140}", fullmatch=True))
def test_a_valid_tag_is_plain_enough_for_a_command_line(tag):
    try:
        valid = validate_tag(tag)
    except ConfigurationError:
        return
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", valid)
    assert commit_in_tag(valid) in (None, valid.removeprefix("sha-"))


def test_monitoring_goes_to_the_core_host_alone():
    assert shipped_paths("core")[2:] == ("deploy/tmpfs/core.yml", "deploy/db/", "monitoring/")
    assert shipped_paths("workers") == (
        "docker-compose.workers.yml",
        ".env.workers",
        "deploy/tmpfs/workers.yml",
    )


def test_a_changed_file_changes_only_the_hash_of_its_own_directory(release):
    changed = replace(release, files={**release.files, "monitoring/grafana/new.json": b"{}"})

    assert changed.digest(GRAFANA) != release.digest(GRAFANA)
    prometheus = {"below": MONITORING, "except_below": GRAFANA}
    assert changed.digest(**prometheus) == release.digest(**prometheus)


def test_a_renamed_file_changes_the_hash():
    one, other = Release("t", None, {"m/a": b"x"}), Release("t", None, {"m/b": b"x"})

    assert one.digest("m/") != other.digest("m/")


def test_a_missing_compose_file_is_named(release):
    with pytest.raises(ConfigurationError, match=r"^commit abc1234 has no docker-compose\.core"):
        replace(release, files={}).parse_compose_file("core")
