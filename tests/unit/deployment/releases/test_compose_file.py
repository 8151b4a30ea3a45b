"""Parsing of compose files and env files."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ktrdr.deployment.releases.release import (
    Service,
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


def test_variables_and_dependencies_may_be_lists():
    content = FILE + b"  e: {image: five, depends_on: [a, b], environment: [WORKER_PORT=5004, A]}\n"
    last = parse_compose_file("compose.yml", content).services[-1]
    assert (last.depends_on, last.worker_port) == (("a", "b"), 5004)
    assert required_variables(content) == ("A",)


def test_a_worker_is_recognised_by_its_port():
    assert [
        service.worker_port for service in parse_compose_file("compose.yml", FILE).services
    ] == [
        None,
        None,
        None,
        5003,
    ]


@pytest.mark.parametrize(
    "content", [b"", b"[", b"services: 3", b"services: {a: 3}", b"services: {a: }", b"\xff"]
)
def test_an_invalid_compose_file_is_refused_by_name(content):
    with pytest.raises(ConfigurationError, match=r"^compose\.yml of the release is not a compose"):
        parse_compose_file("compose.yml", content)


def test_a_fault_of_yaml_is_named_with_its_line():
    with pytest.raises(
        ConfigurationError, match=r"is not a compose file: line 3: .*mapping values"
    ):
        parse_compose_file("compose.yml", b"services:\n  a:\n    image: b: c\n")


EXTENDED = """
services:
  db:
    image: postgres:17
    ports: ["5432:5432"]
    depends_on: {first: {condition: service_healthy}}
    environment: {WORKER_PORT: "5003", A: b}
  first: {image: one}
"""


def parse(*lines: str):
    content = "\n".join([EXTENDED.rstrip(), *lines]).encode()
    services = parse_compose_file("compose.yml", content).services
    return {service.name: service for service in services}


@pytest.mark.parametrize("extends", ["db", "{service: db}"])
def test_a_service_inherits_from_another_one_of_the_same_file(extends):
    services = parse(f"  backup: {{extends: {extends}, profiles: [backup]}}")
    assert services["backup"] == replace(services["db"], name="backup", profiles=("backup",))


def test_what_a_service_defines_itself_is_merged_as_compose_does():
    services = parse(
        "  middle: {extends: db, ports: ['1:1'], depends_on: {db: {}}}",
        "  last: {extends: {service: middle}, image: other:1, environment: {WORKER_PORT: '5004'}}",
    )
    assert services["last"] == Service(
        name="last",
        image="other:1",
        depends_on=("first", "db"),
        worker_port=5004,
        ports=("5432:5432", "1:1"),
    )


def test_the_tags_of_compose_replace_and_remove_what_is_inherited():
    services = parse(
        "  a: {extends: db, ports: !reset [], environment: {WORKER_PORT: !reset null}}",
        "  b: {extends: db, ports: !override ['1:1'], depends_on: !override {db: {}}}",
        "  c: {extends: db, depends_on: !reset null, image: !override other}",
        "  d: {image: !override other, ports: !override [!reset null], profiles: !reset }",
    )
    assert (services["a"].ports, services["a"].worker_port) == ((), None)
    assert (services["b"].ports, services["b"].depends_on) == (("1:1",), ("db",))
    assert (services["c"].image, services["c"].depends_on) == ("other", ())
    assert (services["d"].image, services["d"].profiles) == ("other", ())


def test_removed_variables_are_not_required():
    content = b"services: {a: {image: b, environment: {A: !reset null, B: , C: !override 5}}}"
    assert required_variables(content) == ("B",)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("  x: {build: .}", "has no image of its own, and hosts build none"),
        ("  x: {image: }", "has no image of its own, and hosts build none"),
        ("  x: {extends: db, image: !reset null}", "has no image of its own, and hosts build none"),
        ("  x: {extends: nothing}", "extends nothing, which is not in this file or extends it"),
        ("  x: {extends: x}", "extends x, which is not in this file or extends it"),
        ("  x: {extends: {file: other.yml, service: db}, image: a}",
         "extends other.yml:db, which is not in this file or extends it"),
    ],
)  # fmt: skip
def test_a_service_that_no_release_can_have_is_named_with_its_line(line, reason):
    with pytest.raises(ConfigurationError) as caught:
        parse(line)
    assert caught.value.message == f"compose.yml:9: service x {reason}"


def test_a_service_whose_name_is_a_number_is_named():
    with pytest.raises(ConfigurationError, match=r"^compose\.yml:9: service 1 has no image"):
        parse("  1: {build: .}")


def test_services_that_extend_each_other_are_refused():
    with pytest.raises(ConfigurationError, match=r"service y extends x, which"):
        parse("  x: {extends: y, image: a}", "  y: {extends: x}")


def test_env_files_are_lines_and_comments():
    assert parse_env_file(b"# a\n\nA=1\n B = two=2 \n") == {"A": "1", "B": "two=2"}


def test_quotes_comments_and_variables_in_env_files_are_read_as_compose_does():
    lines = [b"A=one # two", b"B='$A # x'", b'C="$A # x"', b"D=${A}:1#2", b"export E=", b"words"]
    assert parse_env_file(b"\r\n".join(lines)) == {
        "A": "one",
        "B": "$A # x",
        "C": "one # x",
        "D": "one:1#2",
        "E": "",
    }


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
        ("$NAME:$TAG", "set:"),
        ("${NAME:?message}", "set"),
        ("${NAME:+other}${EMPTY:+x}${EMPTY+y}${MISSING+z}", "othery"),
        ("${MISSING:-${NAME}:1}", "set:1"),
        ("$$NAME", "$$NAME"),
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


@pytest.mark.parametrize(
    ("limits", "memory_mb", "cpus"),
    [
        ("deploy: {resources: {limits: {memory: 512M, cpus: '1.5'}}}", 512, 1.5),
        ("deploy: {resources: {limits: {memory: 2GB}}}", 2048, None),
        ("deploy: {resources: {limits: {memory: 1.5gib}}}", 1536, None),
        ("deploy: {resources: {limits: {memory: 1073741824}}}", 1024, None),
        ("mem_limit: 300m\n    cpus: 2", 300, 2),
        ("deploy: {}", None, None),
    ],
)
def test_limits_are_read_in_every_form_of_compose(limits, memory_mb, cpus) -> None:
    content = f"services:\n  a:\n    image: x\n    {limits}\n"
    (service,) = parse_compose_file("c.yml", content.encode()).services
    assert (service.memory_mb, service.cpus) == (memory_mb, cpus)


def test_ports_in_the_long_form_are_those_of_the_short_form() -> None:
    first = "{target: 80, published: '${P}', host_ip: 127.0.0.1, protocol: tcp}"
    ports = f"[{first}, {{target: 81, published: 82}}]"
    content = f"services: {{a: {{image: x, ports: {ports}}}}}"
    (service,) = parse_compose_file("c.yml", content.encode()).services
    assert service.ports == ("127.0.0.1:${P}:80/tcp", "82:81/tcp")
