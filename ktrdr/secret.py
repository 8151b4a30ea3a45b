"""Values that must never be seen, and the scrubber that finds them where they leaked."""

from __future__ import annotations

import itertools
import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from ktrdr.secret_encodings import base64_spellings, spellings

REDACTED: Final = "•••"
# Shorter values, and shorter lines of longer ones, are not searched for, nor are blank ones: they
# stand in ordinary text, which would become illegible and give them away by its gaps.
SHORTEST_SCRUBBED: Final = 4

Span = tuple[int, int]

# What variables that hold secrets are called, also where their dictionary is printed. The value
# ends with its line: any sign that could end it earlier may be a part of it.
_ASSIGNED: Final = re.compile(
    r"""((?<![A-Z0-9])(?:PASSWORD|SECRET|TOKEN)(?:_PREVIOUS|_VERIFIER)?['"]?[ ]*[=:][ ]*)(?=\S).+"""
)


def hide_assigned(text: str) -> str:
    """Hides what follows the name of a variable that holds a secret, to the end of its line.

    For output that comes from where secrets are that nobody here knows: a `Scrubber` finds only
    what it has learnt. ``DB_PASSWORD=…`` and ``'JWT_SECRET_PREVIOUS': …`` are found; not a value
    that stands by itself, nor the further lines of one that has several.
    """
    return _ASSIGNED.sub(rf"\1{REDACTED}", text)


@final
class Secret:
    """A text value that shows itself only when asked by name.

    ``str``, ``repr``, ``format`` and tracebacks that hold it show ``•••``; JSON, YAML, pickle and
    ``shlex.quote`` refuse it. It is not a ``str``: passing it where text is wanted fails loudly
    instead of leaking quietly. It cannot change, so that a copy of it is itself.
    """

    __slots__ = ("_read",)
    _read: Callable[[], str]

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"a Secret holds text, not {type(value).__name__}")
        # Held by a function: whatever walks over attributes finds no text in any of them.
        self._read = lambda: value

    def reveal(self) -> str:
        """The value itself; call it as late as possible and keep the result nowhere."""
        return self._read()

    def __str__(self) -> str:
        return REDACTED

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    def __format__(self, format_spec: str) -> str:
        return format(REDACTED, format_spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.reveal() == other.reveal()

    def __hash__(self) -> int:
        return hash(("Secret", self.reveal()))

    def __bool__(self) -> bool:
        return bool(self.reveal())

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Secret cannot be pickled: reveal it on purpose where it must travel")


class Scrubber:
    """Replaces known secrets in text, in every spelling of `ktrdr.secret_encodings`.

    Every byte that belongs to a spelling of a secret, or of a single line of one, gives way to
    ``•••``; where spellings overlap, all that belongs to any of them does. Which values are secret
    is the caller's choice: a user name that is also a word of every other line is better left
    out. Values that are blank or shorter than `SHORTEST_SCRUBBED` are not searched for.

    Safe to share between threads.
    """

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._learning = threading.Lock()
        self._secrets: frozenset[Secret] = frozenset()
        self._needles = _Needles.of(())
        self.learn(*secrets)

    def learn(self, *secrets: Secret) -> None:
        """Adds secrets that came to be known later; streams already open heed them too."""
        with self._learning:
            self._secrets = self._secrets.union(secrets)
            self._needles = _Needles.of(secret.reveal() for secret in self._secrets)

    def text(self, text: str) -> str:
        """The text without the secrets."""
        stream = self.stream()
        clean = stream.feed(text.encode("utf-8", "surrogatepass")) + stream.finish()
        return clean.decode("utf-8", "surrogatepass")

    def stream(self) -> ScrubbingStream:
        """A scrubber of output that comes in pieces, wherever they are cut."""
        return ScrubbingStream(lambda: self._needles)


class ScrubbingStream:
    """One stream of output: what goes in comes back clean, at once unless it may be half a secret.

    However the input is cut into pieces, the output is the same.
    """

    def __init__(self, needles: Callable[[], _Needles]) -> None:
        self._needles = needles
        self._held = b""
        # So many bytes at the start of what is held belong to a secret that was replaced already.
        self._covered = 0

    def feed(self, data: bytes) -> bytes:
        """Takes the next bytes and returns what can be shown by now."""
        self._held += data
        return self._release(self._needles().open_end(self._held))

    def finish(self) -> bytes:
        """Returns the rest, once nothing more will come."""
        return self._release(len(self._held))

    def _release(self, until: int) -> bytes:
        if until == 0:
            return b""
        needles = self._needles()
        spans = needles.spans_in(self._held)
        if self._covered:
            spans.append((0, self._covered))
        shown: list[bytes] = []
        position = 0
        for start, end in _merged(spans):
            if start >= until:
                break
            shown.append(self._held[position:start])
            if start > 0 or not self._covered:
                shown.append(needles.mark)
            position = end
        shown.append(self._held[position:until])
        self._held = self._held[until:]
        self._covered = max(0, position - until)
        return b"".join(shown)


@dataclass(frozen=True, slots=True)
class _Needles:
    """What is searched for.

    Attributes:
        ordered: The byte strings, sorted, so that a beginning of one is found by bisection.
        families: Those that begin alike, by that beginning.
        firsts: The bytes they begin with.
        alphabet: All bytes that occur in them.
        longest: The length of the longest.
        mark: What stands in their place; no character of it occurs in any of them, so that no
            replacement can complete another secret.
    """

    ordered: tuple[bytes, ...]
    families: Mapping[bytes, tuple[bytes, ...]]
    firsts: frozenset[int]
    alphabet: bytes
    longest: int
    mark: bytes

    @classmethod
    def of(cls, values: Iterable[str]) -> _Needles:
        found: set[bytes] = set()
        for value in values:
            if _is_searched_for(value):
                found |= base64_spellings(value.encode("utf-8", "surrogatepass"))
            for piece in _pieces(value):
                found |= {form.encode("utf-8", "surrogatepass") for form in spellings(piece)}
        ordered = tuple(sorted(found))
        families = itertools.groupby(ordered, lambda needle: needle[:SHORTEST_SCRUBBED])
        return cls(
            ordered=ordered,
            families={head: tuple(alike) for head, alike in families},
            firsts=frozenset(needle[0] for needle in found),
            alphabet=bytes(sorted(set(b"".join(found)))),
            longest=max(map(len, found), default=0),
            mark=_mark_absent_from(b"".join(found).decode("utf-8", "surrogatepass")),
        )

    def spans_in(self, data: bytes) -> list[Span]:
        """Where needles stand, overlapping ones too."""
        # A search each beats one regular expression of all: it skips what cannot match. Most
        # spellings of a value begin alike, and so do the values made of it for many hosts.
        spans = []
        for head, alike in self.families.items():
            at = data.find(head)
            while at >= 0:
                spans += [(at, at + len(each)) for each in alike if data.startswith(each, at)]
                at = data.find(head, at + 1)
        return spans

    def open_end(self, data: bytes) -> int:
        """Where the last bytes begin that further ones may complete to a needle."""
        # Output comes by the line, and few needles hold a line's end: as a rule that is all.
        begin = max(len(data.rstrip(self.alphabet)), len(data) - self.longest + 1)
        for at in range(begin, len(data)):
            if data[at] in self.firsts and self._is_begun_by(data[at:]):
                return at
        return len(data)

    def _is_begun_by(self, tail: bytes) -> bool:
        # The sorted order puts what begins with the tail right after the tail itself.
        after = bisect_left(self.ordered, tail + b"\0")
        return after < len(self.ordered) and self.ordered[after].startswith(tail)


def _pieces(value: str) -> set[str]:
    """The value, and those of its lines that are long enough to be searched for by themselves."""
    lines = (line.strip() for line in re.split(r"[\r\n]+", value))
    return {piece for piece in (value, *lines) if _is_searched_for(piece)}


def _is_searched_for(text: str) -> bool:
    return len(text) >= SHORTEST_SCRUBBED and not text.isspace()


def _merged(spans: list[Span]) -> list[Span]:
    """The spans in order, those that overlap made one."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _mark_absent_from(text: str) -> bytes:
    """``•••``, or three of another sign where a secret itself holds a bullet."""
    taken = set(text)
    others = map(chr, range(0x2580, 0xD800))
    sign = next(sign for sign in itertools.chain(REDACTED[0], others) if sign not in taken)
    return (sign * len(REDACTED)).encode()
