"""Readers of a remote script's output: one stops at the mark, the other collects clean lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from ktrdr.deployment.ssh.interface import OnLine, Stream
from ktrdr.secret import Scrubber

OnBytes = Callable[[bytes], None]

# The only message that ssh writes to the script's own standard error. It is always the last.
_DISCONNECT: Final = re.compile(rb"^Connection to [^\r\n]*\r?\n?\Z", re.MULTILINE)
_DISCONNECTED: Final = re.compile(rb"Connection to \S+ closed by remote host\.")


class MarkedOutput:
    """Output stream of one script, which ends with the session's mark.

    Attributes:
        is_complete: True once the mark has come.
        exit_code: Exit code behind the mark, or 0 if there is none.
    """

    def __init__(self, mark: str, on_bytes: OnBytes) -> None:
        self.is_complete = False
        self.exit_code = 0
        self._mark = mark.encode()
        self._pattern = re.compile(re.escape(self._mark) + rb"(?: (\d+))?\n")
        self._on_bytes = on_bytes
        self._pending = b""

    def feed(self, data: bytes) -> None:
        """Pass the next bytes on, except those that may belong to the mark."""
        data = self._pending + data
        if match := self._pattern.search(data):
            self.is_complete, self.exit_code = True, int(match[1] or 0)
            end, self._pending = match.start(), data[match.end() :]
        else:
            end = self._uncertain_from(data)
            self._pending = data[end:]
        self._on_bytes(data[:end])

    def finish(self) -> str:
        """Pass the rest on at the end of the stream, and return ssh's own last message."""
        rest, self._pending = self._pending, b""
        if match := _DISCONNECTED.match(rest):
            return match[0].decode("utf-8", "replace")
        self._on_bytes(rest)
        return ""

    def _uncertain_from(self, data: bytes) -> int:
        """Return where an incomplete mark, or ssh's last message, may begin."""
        if match := _DISCONNECT.search(data):
            return match.start()
        start = data.find(self._mark)
        if start >= 0:
            return start
        lengths = range(min(len(self._mark) - 1, len(data)), 0, -1)
        partial = (length for length in lengths if self._mark.startswith(data[-length:]))
        return len(data) - next(partial, 0)


class OutputCollector:
    """Collector of a stream's text, scrubbed, which passes each line on as it comes.

    Attributes:
        is_complete: True once the line came that ends a complete script. It is not passed on.
    """

    def __init__(
        self, stream: Stream, scrubber: Scrubber, *, on_line: OnLine | None, sentinel: str = ""
    ) -> None:
        self.is_complete = False
        self._stream = stream
        self._scrubbing = scrubber.stream()
        self._on_line = on_line
        # A secret may be a part of the sentinel's text: then both arrive scrubbed.
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
        """Pass on an unfinished last line at the end of the stream."""
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
