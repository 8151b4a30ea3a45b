"""Errors for unknown names."""

from __future__ import annotations

import pytest

from ktrdr.deployment.hosts.host import unknown_name_error


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bckend", "there is no service 'bckend'; did you mean backend?"),
        ("GRAFANA", "there is no service 'GRAFANA'; did you mean Grafana?"),
        ("x", "there is no service 'x'"),
    ],
)
def test_the_error_suggests_the_closest_name_in_any_case(name: str, message: str) -> None:
    error = unknown_name_error("service", name, ["backend", "Grafana"])
    assert error.message == message
    assert error.hint == "Valid names: backend, Grafana."


def test_the_error_says_that_no_names_exist() -> None:
    assert unknown_name_error("profile", "x", []).hint == "No profiles exist here."
