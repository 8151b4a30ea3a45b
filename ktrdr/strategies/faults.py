"""Everything that is wrong with a document, with the line of each, said at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ktrdr.errors import InvalidParameters, did_you_mean
from ktrdr.yaml_source import KeyPath, Written, dotted, kind_of

MOST_SHOWN: Final = 10
LONGEST: Final = 300
HINT: Final = "docs/strategies.md describes what a strategy's file may say."


class Faults:
    """A document being read, and what has been found wrong with it so far."""

    def __init__(self, name: str, written: Written) -> None:
        self._name = name
        self._written = written
        self._found: list[tuple[int, str]] = []

    def add(self, path: KeyPath, reason: str) -> None:
        """Notes what is wrong with the value at ``path``."""
        about = f"{dotted(path)} " if path else ""
        self._found.append((self._written.line(path), _one_line(f"{about}{reason}")))

    def expect(self, path: KeyPath, wanted: str, value: Any) -> None:
        """Notes that the value is of another kind than it must be."""
        self.add(path, f"must be {wanted}, not {kind_of(value)}")

    def mapping(self, path: KeyPath, value: Any) -> dict[str, Any]:
        """The value if it is keys with values; otherwise a fault, and nothing."""
        if isinstance(value, dict):
            return value
        self.expect(path, "keys with values", value)
        return {}

    def keys(
        self, path: KeyPath, value: Any, known: Iterable[str], *, required: Iterable[str] = ()
    ) -> dict[str, Any]:
        """The values of known keys; unknown and missing ones are faults."""
        wanted = list(known)
        if not isinstance(value, dict):
            self.expect(path, "keys with values", value)
            return {}
        for key in value:
            if key not in wanted:
                self.add((*path, key), f"is not a known key{did_you_mean(key, wanted)}")
        for key in required:
            if key not in value:
                self.add(path, f"lacks {key}" if path else f"the document lacks {key}")
        return {key: value[key] for key in wanted if key in value}

    def number(
        self, path: KeyPath, value: Any, lowest: float, highest: float, *, whole: bool = False
    ) -> float | int | None:
        """The value if it is a number within the bounds; otherwise a fault, and None."""
        wanted = "a whole number" if whole else "a number"
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            self.expect(path, wanted, value) if not isinstance(value, float) else self.add(
                path, f"must be {wanted}, not {value:g}"
            )
            return None
        if not lowest <= value <= highest:
            self.add(path, f"must be from {lowest:g} to {highest:g}, not {in_short(value)}")
            return None
        return value

    def text(self, path: KeyPath, value: Any, longest: int) -> str:
        """The value if it is text; otherwise a fault, and nothing."""
        if not isinstance(value, str):
            self.expect(path, "text", value)
            return ""
        if len(value) > longest:
            self.add(path, f"is longer than {longest} characters")
        return value

    def raise_if_any(self) -> None:
        """Raises everything that was found, in the order of the lines.

        Raises:
            InvalidParameters: Each fault with file and line.
        """
        if self._found:
            found = sorted(set(self._found))
            said = [f"{self._name}:{line}: {reason}" for line, reason in found[:MOST_SHOWN]]
            more = len(found) - len(said)
            raise InvalidParameters(
                "; ".join(said) + (f"; and {more} more" if more else ""), hint=HINT
            )


def in_short(value: Any) -> str:
    """A number; nobody wants to read one of a thousand digits, which a whole one may have."""
    return f"{value:g}" if isinstance(value, float) or abs(value) < 1e15 else "a much larger one"


def _one_line(text: str) -> str:
    """Names are quoted from the file, and could hold anything."""
    line = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text)
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
