"""In which order services are started."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.start_order import levels
from tests.unit.deployment.day import container


def test_a_service_comes_after_all_that_it_needs() -> None:
    stack = [
        container("backend", needs="db:service_healthy:false,jaeger:service_started:true"),
        container("db"),
        container("jaeger"),
        container("proxy", needs="backend:service_healthy:false"),
    ]
    found = [[each.service for each in level] for level in levels(stack)]
    assert found == [["db", "jaeger"], ["backend"], ["proxy"]]


def test_what_is_needed_and_not_asked_for_is_not_waited_for() -> None:
    (level,) = levels([container("backend", needs="db:service_healthy:false")])
    assert [each.service for each in level] == ["backend"]


@given(st.dictionaries(st.sampled_from("abcdef"), st.sets(st.sampled_from("abcdefx"))))
def test_every_service_comes_once_whatever_depends_on_what(needs: dict[str, set[str]]) -> None:
    stack = [
        container(name, needs=",".join(f"{other}:service_started:true" for other in sorted(others)))
        for name, others in needs.items()
    ]
    found = [each.service for level in levels(stack) for each in level]
    assert sorted(found) == sorted(needs)
