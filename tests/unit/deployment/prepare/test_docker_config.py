"""Docker's daemon.json: what is added, and that nothing in it is lost."""

from __future__ import annotations

import base64
import json
from ipaddress import IPv4Network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.prepare.docker_config import complete_config
from ktrdr.errors import HostNotReady

ROTATION = {"log-driver": "json-file", "log-opts": {"max-file": "5", "max-size": "10m"}}
POOL = {"default-address-pools": [{"base": "10.192.0.0/18", "size": 24}]}


def encoded(document: Any) -> str:
    return base64.b64encode(json.dumps(document).encode()).decode()


def completed(document: Any, *networks: str) -> Any:
    content, _ = complete_config(encoded(document), map(IPv4Network, networks))
    return json.loads(content)


def test_a_host_without_the_file_gets_log_rotation() -> None:
    content, added = complete_config("", [IPv4Network("10.0.0.0/24")])
    assert json.loads(content) == ROTATION
    assert added.splitlines() == [
        '"log-driver": "json-file"',
        '"log-opts": {"max-file": "5", "max-size": "10m"}',
    ]


@pytest.mark.parametrize("network", ["172.19.3.0/24", "192.168.178.0/24", "172.16.0.0/12"])
def test_pools_are_chosen_where_those_of_docker_collide(network) -> None:
    assert completed({}, network) == {**ROTATION, **POOL}


def test_the_chosen_pool_collides_with_no_route() -> None:
    document = completed({}, "192.168.1.0/24", "10.0.0.0/8", "172.16.0.0/15")
    (pool,) = document["default-address-pools"]
    assert pool["base"] == "172.18.0.0/18"


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
    assert complete_config(encoded(document), ())[1] == ""


def test_other_log_options_stay_beside_the_rotation() -> None:
    document = completed({"log-opts": {"max-file": "3", "tag": "{{.Name}}"}})
    assert document["log-opts"] == {"max-file": "3", "tag": "{{.Name}}", "max-size": "10m"}


def test_chosen_pools_stay_even_if_they_collide() -> None:
    pools = {"default-address-pools": [{"base": "172.19.0.0/16", "size": 24}]}
    assert (
        completed(pools, "172.19.0.0/16")["default-address-pools"] == pools["default-address-pools"]
    )


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'"text"', b'{"log-opts": 5}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_file_that_is_not_valid_is_refused(content) -> None:
    with pytest.raises(HostNotReady, match=r"/etc/docker/daemon\.json is not valid"):
        complete_config(base64.b64encode(content).decode(), ())


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
    content, _ = complete_config(encoded(document), found)
    result = json.loads(content)
    for key, value in document.items():
        assert result[key] == value
    second, added = complete_config(base64.b64encode(content.encode()).decode(), found)
    assert added == ""
    assert json.loads(second) == result
