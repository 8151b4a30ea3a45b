"""Values that must never be seen, and the scrubber that finds them where they leaked."""

from __future__ import annotations

from typing import Any, Final

REDACTED: Final = "•••"


class Secret:
    """A text value that shows itself only when asked by name.

    ``str``, ``repr``, ``format``, JSON and tracebacks that hold it show ``•••``. It is not a
    ``str``: passing it where text is wanted fails loudly instead of leaking quietly.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself; call it as late as possible and keep the result nowhere."""
        return self._value

    def __str__(self) -> str:
        return REDACTED

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    def __format__(self, format_spec: str) -> str:
        return format(REDACTED, format_spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(("Secret", self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Secret cannot be pickled or copied: pass it on, or reveal it on purpose")
