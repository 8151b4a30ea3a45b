"""Turns the bytes of one output stream into clean lines."""

from __future__ import annotations

from typing import Final

from ktrdr.deployment.ssh.interface import OnLine, Stream
from ktrdr.secret import Scrubber

_NEWLINE: Final = b"\n"


class Output:
    """Collects a stream, scrubbed, and passes its lines on as they come.

    Attributes:
        complete: Whether the line that ends a complete script was seen; it is not passed on.
    """

    def __init__(
        self, stream: Stream, scrubber: Scrubber, *, on_line: OnLine | None, sentinel: str = ""
    ) -> None:
        self.complete = False
        self._stream = stream
        self._scrubbing = scrubber.stream()
        self._on_line = on_line
        # A secret may be a part of the sentinel's text: then both arrive scrubbed.
        self._sentinel = scrubber.text(sentinel)
        self._open_line = b""
        self._lines: list[str] = []

    @property
    def text(self) -> str:
        """All that came so far."""
        return "".join(self._lines)

    def feed(self, data: bytes) -> None:
        """Takes the next bytes from the process."""
        self._split(self._scrubbing.feed(data))

    def finish(self) -> None:
        """Passes on what has no line end, when nothing more will come."""
        self._split(self._scrubbing.finish())
        if self._open_line:
            self._take(self._open_line, "")
            self._open_line = b""

    def _split(self, clean: bytes) -> None:
        *lines, self._open_line = (self._open_line + clean).split(_NEWLINE)
        for line in lines:
            self._take(line, "\n")

    def _take(self, raw: bytes, end: str) -> None:
        line = raw.decode("utf-8", "replace").removesuffix("\r")
        if self._sentinel and line.endswith(self._sentinel):
            self.complete = True
            line, end = line.removesuffix(self._sentinel), ""
            if not line:
                return
        self._lines.append(line + end)
        if self._on_line:
            self._on_line(self._stream, line)
