"""Hosts that the words of a command name, and their configuration."""

from __future__ import annotations

import pytest

from ktrdr.deployment.homelab.hosts import select_hosts, split_services
from ktrdr.deployment.homelab.inventory import Inventory, add_defaults
from ktrdr.deployment.hosts.host import Host
from ktrdr.errors import UsageError


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ([], ["core", "workers B", "workers C"]),
        (["all"], ["core", "workers B", "workers C"]),
        (["core"], ["core"]),
        (["workers"], ["workers B", "workers C"]),
        (["workers", "all"], ["workers B", "workers C"]),
        (["workers", "c"], ["workers C"]),
        (["workers", "C", "b", "c"], ["workers C", "workers B"]),
        (["B"], ["workers B"]),
        (["c", "core"], ["workers C", "core"]),
        (["workers", "*"], ["workers B", "workers C"]),
        (["[bc]"], ["workers B", "workers C"]),
    ],
)
def test_words_name_hosts(inventory, words, names) -> None:
    assert [host.name for host in select_hosts(inventory, words)] == names


@pytest.mark.parametrize(
    "words", [["everything"], ["workers", "X"], ["workers", "core"], ["x*"], ["core", "X"]]
)
def test_words_that_name_no_host_are_rejected(inventory, words) -> None:
    with pytest.raises(UsageError) as rejected:
        select_hosts(inventory, words)
    assert rejected.value.hint


def test_a_misspelt_node_is_answered_with_the_closest_name(inventory) -> None:
    with pytest.raises(UsageError, match=r"there is no node 'bb'; did you mean B\?") as rejected:
        select_hosts(inventory, ["workers", "bb"])
    assert rejected.value.hint == "Valid names: B, C."


def test_a_word_close_to_core_or_a_node_is_answered_with_it(inventory) -> None:
    with pytest.raises(UsageError, match=r"did you mean core\?") as rejected:
        select_hosts(inventory, ["cora"])
    assert rejected.value.hint == "Valid names: core, all, B, C."


@pytest.fixture
def tagged() -> Inventory:
    workers = {"gpu-1": {"tags": ["gpu", "fast"]}, "gpu-2": {"tags": ["gpu"]}, "C": {}}
    return Inventory.model_validate(add_defaults({"domain": "lab.test", "workers": workers}))


@pytest.mark.parametrize(
    ("words", "tags", "nodes"),
    [
        (["workers"], ["gpu"], ["gpu-1", "gpu-2"]),
        (["workers"], ["fast", "gpu"], ["gpu-1", "gpu-2"]),
        (["workers", "gpu-2", "C"], ["gpu"], ["gpu-2"]),
        (["workers", "gpu-*"], ["fast"], ["gpu-1"]),
        (["workers", "GPU-*", "c"], [], ["gpu-1", "gpu-2", "C"]),
    ],
)
def test_tags_and_patterns_select_nodes(tagged, words, tags, nodes) -> None:
    assert [host.node for host in select_hosts(tagged, words, tags)] == nodes


def test_a_tag_that_no_selected_node_has_is_rejected_with_those_that_exist(tagged) -> None:
    with pytest.raises(UsageError, match=r"there is no tag 'gpus'; did you mean gpu\?") as rejected:
        select_hosts(tagged, ["workers"], ["gpus"])
    assert rejected.value.hint == "Valid names: gpu, fast."
    with pytest.raises(UsageError, match="there is no tag 'fast'"):
        select_hosts(tagged, ["workers", "C"], ["fast"])


@pytest.mark.parametrize(
    ("words", "hosts", "services"),
    [
        ([], [], []),
        (["core"], ["core"], []),
        (["core", "backend", "db"], ["core"], ["backend", "db"]),
        (["b", "backtest-worker-1"], ["b"], ["backtest-worker-1"]),
        (["workers", "B", "backtest-worker-1"], ["workers", "B"], ["backtest-worker-1"]),
        (["workers", "all", "x"], ["workers", "all"], ["x"]),
        (["backend"], ["backend"], []),
    ],
)
def test_services_follow_the_hosts(inventory, words, hosts, services) -> None:
    assert split_services(inventory, words) == (hosts, services)


def test_a_host_has_the_address_directory_and_project_of_its_stack(inventory) -> None:
    (core,) = select_hosts(inventory, ["core"])
    assert core == Host(
        name="core",
        address="backend.lab.test",
        dns_name="backend.lab.test",
        workdir="/opt/ktrdr-core",
        stack="core",
        project="ktrdr-core",
        secrets_directory="/run/ktrdr/ktrdr-core",
        managed_directories=("monitoring", "deploy/fields"),
    )
    assert core.secrets_root == "/run/ktrdr"
    (node,) = select_hosts(inventory, ["workers", "B"])
    assert node == Host(
        name="workers B",
        address="workers-b.lab.test",
        dns_name="workers-b.lab.test",
        managed_directories=("deploy/node", "deploy/fields"),
        workdir="/opt/ktrdr-workers-b",
        stack="workers",
        project="ktrdr-workers",
        secrets_directory="/run/ktrdr/ktrdr-workers",
        node="B",
    )
    assert node.short_name == "B"
