"""Parsing of compose files and env files."""

from __future__ import annotations

import pytest

from ktrdr.deployment.releases.release import (
    interpolate,
    parse_compose_file,
    parse_env_file,
    required_variables,
    secret_env_map,
)
from ktrdr.errors import ConfigurationError

FILE = b"""
services:
  a: {image: one, depends_on: [b]}
  b: {image: two, depends_on: {c: {condition: service_healthy}}}
  c: {image: three}
  d: {image: four, profiles: [extra], environment: {WORKER_PORT: "5003"}}
"""


def test_indirect_dependencies_are_in_the_order_of_the_file():
    compose_file = parse_compose_file("compose.yml", FILE)

    assert compose_file.dependencies_of("a") == ("b", "c")
    assert compose_file.dependencies_of("c") == ()


def test_a_service_with_profiles_runs_only_with_one_of_them():
    compose_file = parse_compose_file("compose.yml", FILE)

    assert [service.name for service in compose_file.enabled_services(())] == ["a", "b", "c"]
    assert [service.name for service in compose_file.enabled_services(["extra"])] == [
        "a",
        "b",
        "c",
        "d",
    ]
    assert compose_file.profiles == ("extra",)


def test_a_worker_is_recognised_by_its_port():
    assert [
        service.worker_port for service in parse_compose_file("compose.yml", FILE).services
    ] == [
        None,
        None,
        None,
        5003,
    ]


@pytest.mark.parametrize("content", [b"", b"[", b"services: 3", b"services: {a: {}}", b"\xff"])
def test_an_invalid_compose_file_is_refused_by_name(content):
    with pytest.raises(ConfigurationError, match=r"^compose\.yml of the release is not a compose"):
        parse_compose_file("compose.yml", content)


def test_env_files_are_lines_and_comments():
    assert parse_env_file(b"# a\n\nA=1\n B = two=2 \n") == {"A": "1", "B": "two=2"}


@pytest.mark.parametrize(
    ("text", "expected"),
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
def test_variables_are_replaced_as_compose_does(text, expected):
    assert interpolate(text, {"NAME": "set", "EMPTY": ""}) == expected


def test_the_committed_compose_files_are_valid(root):
    core = parse_compose_file("core", (root / "docker-compose.core.yml").read_bytes())
    workers = parse_compose_file("workers", (root / "docker-compose.workers.yml").read_bytes())

    assert core.names == ("db", "backend", "prometheus", "grafana", "jaeger", "nfs-server")
    assert core.dependencies_of("backend") == ("db",)
    assert {service.worker_port for service in workers.services} == set(range(5003, 5009))
    assert workers.profiles == ("scale-2", "scale-3")


def test_variables_without_a_default_are_required() -> None:
    content = b"""
services:
  a:
    image: ${IMAGE}:${TAG:-x}
    command: echo $${SHELL_VARIABLE} ${MUST:?say it} ${EMPTY-}
    environment: {SECRET: , GIVEN: x}
"""
    assert required_variables(content) == ("IMAGE", "MUST", "SECRET")


def test_variables_that_a_container_gets_unchanged_are_found() -> None:
    content = b"""
services:
  a: {environment: {PASSWORD: "${DB_PASSWORD}", URL: "x${DB_PASSWORD}", DB_USER: , OTHER: "${A}"}}
  b: {environment: {SECRET: "${DB_PASSWORD:-}"}}
"""
    assert secret_env_map(content, ["DB_PASSWORD", "DB_USER"]) == (
        ("DB_PASSWORD", "PASSWORD"),
        ("DB_PASSWORD", "SECRET"),
        ("DB_USER", "DB_USER"),
    )
