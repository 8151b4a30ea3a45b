"""What is read from compose files and settings."""

from __future__ import annotations

import pytest

from ktrdr.deployment.releases.compose_file import filled_in, read, read_settings, required
from ktrdr.errors import ConfigurationError

FILE = b"""
services:
  a: {image: one, depends_on: [b]}
  b: {image: two, depends_on: {c: {condition: service_healthy}}}
  c: {image: three}
  d: {image: four, profiles: [extra], environment: {WORKER_PORT: "5003"}}
"""


def test_dependencies_are_found_through_others_in_the_files_order():
    stack = read("compose.yml", FILE)

    assert stack.dependencies_of("a") == ("b", "c")
    assert stack.dependencies_of("c") == ()


def test_a_service_with_profiles_runs_only_with_one_of_them():
    stack = read("compose.yml", FILE)

    assert [service.name for service in stack.running_with(())] == ["a", "b", "c"]
    assert [service.name for service in stack.running_with(["extra"])] == ["a", "b", "c", "d"]
    assert stack.profiles == ("extra",)


def test_a_worker_is_known_by_its_port():
    assert [service.worker_port for service in read("compose.yml", FILE).services] == [
        None,
        None,
        None,
        5003,
    ]


@pytest.mark.parametrize("content", [b"", b"[", b"services: 3", b"services: {a: {}}", b"\xff"])
def test_what_is_no_compose_file_is_refused_by_name(content):
    with pytest.raises(ConfigurationError, match=r"^compose\.yml of the release is not a compose"):
        read("compose.yml", content)


def test_settings_are_lines_and_comments():
    assert read_settings(b"# a\n\nA=1\n B = two=2 \n") == {"A": "1", "B": "two=2"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain:1", "plain:1"),
        ("${NAME}:${TAG}", "set:"),
        ("${NAME:-other}", "set"),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY-other}", ""),
        ("${MISSING-other}", "other"),
        ("${MISSING:-}", ""),
    ],
)
def test_variables_are_filled_in_as_compose_does(text, filled):
    assert filled_in(text, {"NAME": "set", "EMPTY": ""}) == filled


def test_the_committed_stacks_can_be_read(root):
    core = read("core", (root / "docker-compose.core.yml").read_bytes())
    workers = read("workers", (root / "docker-compose.workers.yml").read_bytes())

    assert core.names == ("db", "backend", "prometheus", "grafana", "jaeger", "nfs-server")
    assert core.dependencies_of("backend") == ("db",)
    assert {service.worker_port for service in workers.services} == set(range(5003, 5009))
    assert workers.profiles == ("scale-2", "scale-3")


def test_what_a_compose_file_has_no_default_for_is_required() -> None:
    content = b"""
services:
  a:
    image: ${IMAGE}:${TAG:-x}
    command: echo $${SHELL_VARIABLE} ${MUST:?say it} ${EMPTY-}
    environment: {SECRET: , GIVEN: x}
"""
    assert required(content) == ("IMAGE", "MUST", "SECRET")
