"""Docker's daemon.json: what is added, and that nothing in it is lost."""

from __future__ import annotations

import base64
import hashlib
import json
from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.hosts.networks import Route
from ktrdr.deployment.prepare.docker_config import complete_config
from ktrdr.errors import HostNotReady

ROTATION = {"log-driver": "json-file", "log-opts": {"max-file": "5", "max-size": "10m"}}
POOL = {"default-address-pools": [{"base": "10.210.0.0/16", "size": 24}]}


def encoded(document: Any) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def routes(*networks: str) -> list[Route]:
    return [Route(IPv4Network(network), "eth0") for network in networks]


def completed(document: Any, *networks: str, options: tuple[str, ...] = ()) -> Any:
    config = complete_config(encoded(document), options, routes(*networks))
    return json.loads(config.content)


def test_a_host_without_the_file_gets_log_rotation() -> None:
    config = complete_config(None, (), routes("10.0.0.0/24"))
    assert json.loads(config.content) == ROTATION
    assert config.based_on == "-"
    assert config.added.splitlines() == [
        '"log-driver": "json-file"',
        '"log-opts": {"max-file": "5", "max-size": "10m"}',
    ]


@pytest.mark.parametrize("network", ["172.19.3.0/24", "192.168.178.0/24", "172.16.0.0/12"])
def test_pools_are_chosen_where_those_of_docker_collide(network) -> None:
    assert completed({}, network) == {**ROTATION, **POOL}


def test_the_chosen_pool_collides_with_no_route() -> None:
    document = completed({}, "192.168.1.0/24", "10.0.0.0/8", "172.16.0.0/15")
    (pool,) = document["default-address-pools"]
    assert pool["base"] == "172.18.0.0/16"


def test_routes_to_all_private_addresses_leave_no_pool() -> None:
    with pytest.raises(HostNotReady, match="leave no private addresses"):
        completed({}, "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")


@pytest.mark.parametrize(
    "document",
    [
        {"log-driver": "journald"},
        {"log-driver": "local", "log-opts": {}},
        {"log-opts": {"max-size": "50m"}},
    ],
)
def test_a_chosen_log_driver_or_rotation_stays(document) -> None:
    assert complete_config(encoded(document), (), ()).added == ""


def test_other_log_options_stay_beside_the_rotation() -> None:
    document = completed({"log-opts": {"max-file": "3", "tag": "{{.Name}}"}})
    assert document["log-opts"] == {"max-file": "3", "tag": "{{.Name}}", "max-size": "10m"}


def test_chosen_pools_stay_even_if_they_collide() -> None:
    pools = {"default-address-pools": [{"base": "172.19.0.0/16", "size": 24}]}
    assert (
        completed(pools, "172.19.0.0/16")["default-address-pools"] == pools["default-address-pools"]
    )


def test_options_on_the_command_line_are_not_repeated_in_the_file() -> None:
    # Docker would not start.
    assert completed({}, "172.19.0.0/16", options=("log-opt", "default-address-pool")) == {}


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'"text"', b'{"log-opts": 5}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_file_that_is_not_valid_is_refused(content) -> None:
    with pytest.raises(HostNotReady, match=r"/etc/docker/daemon\.json is not valid"):
        complete_config(base64.b64encode(content).decode(), (), ())


def test_an_empty_file_counts_as_one_without_keys() -> None:
    config = complete_config("", (), ())
    assert json.loads(config.content) == ROTATION
    assert config.based_on == hashlib.sha256(b"").hexdigest()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(
    st.sampled_from(["features", "data-root", "proxies", "log-driver", "dns"]) | st.text(),
    json_values,
    max_size=5,
).filter(lambda document: "log-opts" not in document)
networks = st.lists(
    st.builds(
        lambda address, prefix: IPv4Network((address, prefix), strict=False),
        st.ip_addresses(v=4),
        st.integers(9, 32),
    ),
    max_size=4,
)


@given(documents, networks)
def test_no_key_is_lost_and_a_second_run_adds_nothing(document, found) -> None:
    known = [Route(network, "eth0") for network in found]
    first = complete_config(encoded(document), (), known)
    result = json.loads(first.content)
    for key, value in document.items():
        assert result[key] == value
    second = complete_config(base64.b64encode(first.content.encode()).decode(), (), known)
    assert second.added == ""
    assert json.loads(second.content) == result
