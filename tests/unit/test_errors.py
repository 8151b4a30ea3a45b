"""The tree of errors is what its documentation draws."""

from __future__ import annotations

import re

import pytest

from ktrdr import errors
from ktrdr.errors import KtrdrError

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, KtrdrError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_drawn_tree_contains_each_error_with_its_codes(kind: type[KtrdrError]) -> None:
    drawn = re.search(rf"{kind.__name__}\s+exit (\d+)\s+HTTP (\d+)", errors.__doc__ or "")
    assert drawn, kind
    assert (int(drawn[1]), int(drawn[2])) == (kind.exit_code, kind.http_status)


def test_every_kind_of_error_has_a_unique_slug() -> None:
    assert len({kind.kind for kind in KINDS}) == len(KINDS)


def test_an_error_reads_as_its_message() -> None:
    error = KtrdrError("the thing is not there", hint="Put it there.")
    assert (str(error), error.hint) == ("the thing is not there", "Put it there.")
