"""Validation of documents: all errors, with their lines, reported together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ktrdr.errors import InvalidParameters, did_you_mean
from ktrdr.yaml_source import KeyPath, YamlDocument, dotted, kind_of

MAX_ERRORS_SHOWN: Final = 10
MAX_ERROR_LENGTH: Final = 300
HINT: Final = "docs/strategies.md describes the format of strategy files."


class DocumentValidator:
    """Reader of a document's values that collects the errors."""

    def __init__(self, name: str, document: YamlDocument) -> None:
        self._name = name
        self._document = document
        self._errors: list[tuple[int, str]] = []

    def add_error(self, path: KeyPath, reason: str) -> None:
        """Record an error in the value at ``path``."""
        subject = f"{dotted(path)} " if path else ""
        self._errors.append((self._document.line(path), _printable(f"{subject}{reason}")))

    def add_type_error(self, path: KeyPath, expected: str, value: Any) -> None:
        """Record that the value has another type than expected."""
        self.add_error(path, f"must be {expected}, not {kind_of(value)}")

    def read_mapping(self, path: KeyPath, value: Any) -> dict[str, Any]:
        """Return the value if it is a mapping; otherwise record an error and return no keys."""
        if isinstance(value, dict):
            return value
        self.add_type_error(path, "a mapping of keys to values", value)
        return {}

    def read_keys(
        self, path: KeyPath, value: Any, known: Iterable[str], *, required: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Return the values of known keys; record unknown and missing keys as errors."""
        allowed = list(known)
        if not isinstance(value, dict):
            return self.read_mapping(path, value)
        for key in value:
            if key not in allowed:
                self.add_error((*path, key), f"is not a known key{did_you_mean(key, allowed)}")
        for key in required:
            if key not in value:
                self.add_error(path, f"{'' if path else 'the document '}is missing {key}")
        return {key: value[key] for key in allowed if key in value}

    def read_number(
        self, path: KeyPath, value: Any, minimum: float, maximum: float, *, is_integer: bool = False
    ) -> float | int | None:
        """Return a number within the bounds; otherwise record an error and return None."""
        expected = "a whole number" if is_integer else "a number"
        types = int if is_integer else (int, float)
        if isinstance(value, bool) or not isinstance(value, types):
            if isinstance(value, float):
                self.add_error(path, f"must be {expected}, not {value:g}")
            else:
                self.add_type_error(path, expected, value)
            return None
        if not minimum <= value <= maximum:
            self.add_error(
                path, f"must be from {minimum:g} to {maximum:g}, not {shorten_number(value)}"
            )
            return None
        return value

    def read_text(self, path: KeyPath, value: Any, max_length: int) -> str:
        """Return the value if it is text; otherwise record an error and return no text."""
        if not isinstance(value, str):
            self.add_type_error(path, "text", value)
            return ""
        if len(value) > max_length:
            self.add_error(path, f"is longer than {max_length} characters")
        return value

    def raise_if_invalid(self) -> None:
        """Raise all recorded errors, in the order of their lines.

        Raises:
            InvalidParameters: The errors, with file and line.
        """
        if self._errors:
            errors = sorted(set(self._errors))
            shown = [f"{self._name}:{line}: {reason}" for line, reason in errors[:MAX_ERRORS_SHOWN]]
            rest = len(errors) - len(shown)
            raise InvalidParameters(
                "; ".join(shown) + (f"; and {rest} more" if rest else ""), hint=HINT
            )


def shorten_number(value: Any) -> str:
    """Return a number as text, without the thousands of digits that an integer may have."""
    if isinstance(value, float) or abs(value) < 1e15:
        return f"{value:g}"
    return "a much larger number"


def _printable(text: str) -> str:
    """Return one short printable line: names come from the file and may contain anything."""
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return line if len(line) <= MAX_ERROR_LENGTH else f"{line[: MAX_ERROR_LENGTH - 1]}…"
