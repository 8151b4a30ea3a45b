"""Jaeger's configuration: keys that the pinned version knows, and what it must say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import yaml

# Version whose keys are listed here. After a change of it, compare them with the documentation of
# the new one: Jaeger does not start with a key that it does not know.
VERSION = "2.20"
HTTP_SERVER: dict[str, Any] = {
    "endpoint": None,
    "transport": None,
    "tls": {},
    "cors": {},
    "auth": {},
}
GRPC_SERVER: dict[str, Any] = {
    "endpoint": None,
    "transport": None,
    "tls": {},
    "keepalive": {},
    "auth": {},
}
PATH = {"enabled": None, "path": None}
# None: a value. {}: further keys, which we do not use. "*": any name.
KEYS: dict[str, Any] = {
    "service": {
        "extensions": None,
        "telemetry": {},
        "pipelines": {"traces": {"receivers": None, "processors": None, "exporters": None}},
    },
    "extensions": {
        "jaeger_storage": {
            "backends": {"*": {"memory": {"max_traces": None}, "badger": {}, "grpc": {}}},
            "metric_backends": {},
        },
        "jaeger_query": {
            "storage": {"traces": None, "traces_archive": None, "metrics": None},
            "base_path": None,
            "ui": {"config_file": None, "assets_path": None, "log_access": None},
            "max_clock_skew_adjust": None,
            "max_trace_size": None,
            "enable_tracing": None,
            "http": HTTP_SERVER,
            "grpc": GRPC_SERVER,
        },
        "healthcheckv2": {
            "use_v2": None,
            "component_health": {},
            "http": {**HTTP_SERVER, "status": PATH, "config": PATH},
            "grpc": GRPC_SERVER,
        },
    },
    "receivers": {"otlp": {"protocols": {"grpc": GRPC_SERVER, "http": HTTP_SERVER}}},
    "processors": {
        "batch": {"timeout": None, "send_batch_size": None, "send_batch_max_size": None}
    },
    "exporters": {"jaeger_storage_exporter": {"trace_storage": None, "queue": {}}},
}


@pytest.fixture
def config(core) -> dict[str, Any]:
    text = core["services"]["jaeger"]["environment"]["JAEGER_CONFIG"]
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def unknown_keys(config: Any, keys: Any, path: str = "") -> Iterator[str]:
    """Yield the paths of keys that the version does not know."""
    if keys is None or not isinstance(config, dict):
        if isinstance(config, dict):
            yield path
        return
    for key, value in config.items():
        known = keys.get(key, keys.get("*", "unknown"))
        if known == "unknown":
            yield f"{path}/{key}"
        else:
            yield from unknown_keys(value, known, f"{path}/{key}")


def test_the_pinned_version_knows_every_key(core, config) -> None:
    assert core["services"]["jaeger"]["image"].startswith(f"jaegertracing/jaeger:{VERSION}.")
    assert list(unknown_keys(config, KEYS)) == []


@pytest.mark.parametrize(
    "path",
    [
        ("extensions", "jaeger_query", "enable_traces"),
        ("extensions", "healthcheckv2", "endpoint"),
        ("extensions", "jaeger_storage", "backends", "recent", "memory", "maxtraces"),
        ("receivers", "otlp", "grpc"),
        ("service", "pipelines", "trace"),
    ],
)
def test_a_misspelt_key_is_found(config, path) -> None:
    changed = deepcopy(config)
    section = changed
    for key in path[:-1]:
        section = section[key]
    section[path[-1]] = {}
    assert list(unknown_keys(changed, KEYS)) == ["/" + "/".join(path)]


def test_every_component_that_is_used_is_configured_and_the_reverse(config) -> None:
    (pipeline,) = config["service"]["pipelines"].values()
    used = {"extensions": config["service"]["extensions"], **pipeline}
    for kind, names in used.items():
        assert set(names) == set(config[kind]), kind
    stores = set(config["extensions"]["jaeger_storage"]["backends"])
    assert {config["extensions"]["jaeger_query"]["storage"]["traces"]} == stores
    assert {config["exporters"]["jaeger_storage_exporter"]["trace_storage"]} == stores


def test_jaeger_traces_none_of_its_own_requests(config) -> None:
    # Every 5 s a health check: 17,280 traces a day.
    assert config["extensions"]["jaeger_query"]["enable_tracing"] is False


def test_the_health_check_asks_the_extension_for_it_and_only_from_inside(core, config) -> None:
    service = core["services"]["jaeger"]
    endpoint = config["extensions"]["healthcheckv2"]["http"]["endpoint"]
    assert service["healthcheck"]["test"][-1] == f"http://{endpoint}/status"
    assert config["extensions"]["healthcheckv2"]["use_v2"] is True
    # Its answers show the state inside.
    assert endpoint.startswith("127.0.0.1:")
    assert endpoint.rpartition(":")[2] not in str(service["ports"])


def test_the_published_ports_are_those_that_jaeger_listens_on(core, config) -> None:
    listening = {
        config["extensions"]["jaeger_query"]["http"]["endpoint"],
        config["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"],
    }
    published = {
        "0.0.0.0:" + re.sub(r".*:", "", port) for port in core["services"]["jaeger"]["ports"]
    }
    assert listening == published
