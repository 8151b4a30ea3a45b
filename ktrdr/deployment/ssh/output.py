"""Collector of a program's output, which removes secrets and reports each line."""

from __future__ import annotations

from ktrdr.deployment.ssh.interface import OnLine, Stream
from ktrdr.secret import Scrubber


class OutputCollector:
    """Collector of a stream's text, scrubbed, which reports each line when it arrives.

    Attributes:
        is_complete: Whether the sentinel line has arrived, which ends a complete script and is not
            reported.
    """

    def __init__(
        self, stream: Stream, scrubber: Scrubber, *, on_line: OnLine | None, sentinel: str = ""
    ) -> None:
        self.is_complete = False
        self._stream = stream
        self._scrubbing = scrubber.stream()
        self._on_line = on_line
        # A secret may be a part of the sentinel, which then arrives scrubbed.
        self._sentinel = scrubber.scrub(sentinel)
        self._open_line = b""
        self._lines: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self._lines)

    def feed(self, data: bytes) -> None:
        """Collect the next bytes from the process."""
        self._split(self._scrubbing.feed(data))

    def finish(self) -> None:
        """Report an incomplete last line at the end of the stream."""
        self._split(self._scrubbing.finish())
        if self._open_line:
            self._add(self._open_line, "")
            self._open_line = b""

    def _split(self, clean: bytes) -> None:
        *lines, self._open_line = (self._open_line + clean).split(b"\n")
        for line in lines:
            self._add(line, "\n")

    def _add(self, raw: bytes, end: str) -> None:
        line = raw.decode("utf-8", "replace").removesuffix("\r")
        if self._sentinel and line.endswith(self._sentinel):
            self.is_complete = True
            line, end = line.removesuffix(self._sentinel), ""
            if not line:
                return
        self._lines.append(line + end)
        if self._on_line:
            self._on_line(self._stream, line)
