"""Hosts that the words of a command name, and their configuration."""

from __future__ import annotations

import pytest

from ktrdr.deployment.homelab.hosts import select_hosts
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
    ],
)
def test_words_name_hosts(inventory, words, names) -> None:
    assert [host.name for host in select_hosts(inventory, words)] == names


@pytest.mark.parametrize("words", [["everything"], ["core", "B"], ["workers", "X"], ["B"]])
def test_words_that_name_no_host_are_rejected(inventory, words) -> None:
    with pytest.raises(UsageError) as rejected:
        select_hosts(inventory, words)
    assert rejected.value.hint


def test_a_misspelt_node_is_answered_with_the_closest_name(inventory) -> None:
    with pytest.raises(UsageError, match=r"there is no node 'bb'; did you mean B\?") as rejected:
        select_hosts(inventory, ["workers", "bb"])
    assert rejected.value.hint == "Valid names: B, C."


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
