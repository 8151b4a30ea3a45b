from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.ssh.output import OutputCollector
from ktrdr.secret import Scrubber, Secret

END = "the-end"


def collect(*pieces: bytes, scrubber: Scrubber | None = None) -> tuple[OutputCollector, list[str]]:
    lines: list[str] = []
    output = OutputCollector(
        "stdout",
        scrubber or Scrubber(),
        on_line=lambda _, line: lines.append(line),
        sentinel=END,
    )
    for piece in pieces:
        output.feed(piece)
    output.finish()
    return output, lines


@given(
    text=st.text(alphabet=st.sampled_from("ab\né")),
    cuts=st.lists(st.integers(0, 30), max_size=5),
)
def test_however_output_is_cut_lines_come_whole(text: str, cuts: list[int]) -> None:
    data = text.encode()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    output, lines = collect(*(data[a:b] for a, b in itertools.pairwise(edges)))
    assert output.text == text
    assert lines == text.splitlines()


def test_the_sentinel_is_noticed_and_left_out() -> None:
    output, lines = collect(b"a\nthe-end\n")
    assert (output.is_complete, output.text, lines) == (True, "a\n", ["a"])


def test_the_sentinel_is_found_behind_output_that_lacks_its_line_end() -> None:
    output, lines = collect(b"athe-", b"end\n")
    assert (output.is_complete, output.text, lines) == (True, "a", ["a"])


def test_without_the_sentinel_the_output_is_not_complete() -> None:
    assert not collect(b"a\nthe-en\n")[0].is_complete


def test_a_secret_that_is_a_part_of_the_sentinel_does_not_hide_it() -> None:
    output, _ = collect(b"a\nthe-end\n", scrubber=Scrubber([Secret("the-")]))
    assert (output.is_complete, output.text) == (True, "a\n")


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_secret_cut_in_two_is_replaced(cut: int) -> None:
    data = b"hunter22\n"
    output, lines = collect(data[:cut], data[cut:], scrubber=Scrubber([Secret("hunter22")]))
    assert (output.text, lines) == ("•••\n", ["•••"])


def test_bytes_that_are_no_text_and_carriage_returns_do_no_harm() -> None:
    assert collect(b"\xff\r\n")[1] == ["\ufffd"]
