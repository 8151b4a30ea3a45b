"""Which hosts a command is about."""

from __future__ import annotations

import pytest

from ktrdr.deployment.homelab.hosts import chosen
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
    assert [host.name for host in chosen(inventory, words)] == names


@pytest.mark.parametrize("words", [["everything"], ["core", "B"], ["workers", "X"], ["B"]])
def test_words_that_name_no_host_are_refused(inventory, words) -> None:
    with pytest.raises(UsageError) as refused:
        chosen(inventory, words)
    assert refused.value.hint
