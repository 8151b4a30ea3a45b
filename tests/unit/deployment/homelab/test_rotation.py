"""Warnings after a deploy that rotated secrets."""

from __future__ import annotations

from typing import Any

import pytest

from ktrdr.deployment.homelab.rotation import rotation_warnings

HOUR_S = 3600


def warnings(*rotated: str, **changes: Any) -> list[str]:
    """Return the warnings after a deploy of the core that rotated these secrets."""
    arguments = {"nodes": ("B", "C"), "later_nodes": (), "overlap_s": 24 * HOUR_S, **changes}
    return list(rotation_warnings({"rotated": rotated}, **arguments))


def test_without_a_rotation_there_is_no_warning() -> None:
    assert warnings() == []
    assert list(rotation_warnings({}, nodes=("B",), later_nodes=(), overlap_s=0)) == []


@pytest.mark.parametrize(
    ("later_nodes", "expected"),
    [
        (
            (),
            ["the workers still use the former db_password: run `ktrdr deploy workers all`"],
        ),
        (
            ("B",),
            ["the workers of C still use the former db_password: run `ktrdr deploy workers C`"],
        ),
        (("B", "C"), []),
    ],
)
def test_the_remaining_workers_must_be_deployed_after_a_rotation(later_nodes, expected) -> None:
    assert warnings("db_password", later_nodes=later_nodes) == expected


def test_several_remaining_nodes_are_named_with_a_command_for_each() -> None:
    (warning,) = warnings("db_password", nodes=("A", "B", "C"), later_nodes=("A",))
    assert warning == (
        "the workers of B, C still use the former db_password: "
        "run `ktrdr deploy workers B` and `ktrdr deploy workers C`"
    )
    assert warnings("db_password", nodes=("B",)) == [
        "the workers of B still use the former db_password: run `ktrdr deploy workers B`"
    ]


def test_former_tokens_must_be_replaced_during_the_overlap() -> None:
    workers, tokens = warnings("db_password", "jwt_secret")
    assert workers == (
        "the workers still use the former db_password and jwt_secret: "
        "run `ktrdr deploy workers all`"
    )
    assert tokens == (
        "tokens signed with the former jwt_secret stay valid for another 24 h: "
        "replace them before then with `ktrdr token create --save`"
    )
    assert warnings("jwt_secret", later_nodes=("B", "C"), overlap_s=0) == [
        "tokens signed with the former jwt_secret are no longer valid"
    ]


def test_workers_do_not_use_the_password_of_grafana() -> None:
    assert warnings("grafana_password") == []


def test_a_password_of_grafana_that_could_not_be_compared_causes_a_warning() -> None:
    (warning,) = warnings("grafana_password unknown")
    assert "could not be compared with the vault" in warning
