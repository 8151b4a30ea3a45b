"""Protocol of a remote shell that runs one script after the other over one connection.

``sh -s`` reads commands from its standard input. Each script is one compound command, which the
shell runs only once all of it has arrived. So a truncated script does nothing. Standard input also
shows the host whether the caller is alive:

- While a script runs, a watcher reads it. `HEARTBEAT` means that the caller is alive. `END`, or the
  end of the input, ends the script: the session's whole process group receives SIGTERM, so that
  traps run, and SIGKILL `GRACE_S` later.
- Between scripts the shell itself reads it, until `START` announces the next one.
- A guard ends the session after 45 s without any line, as after a silent failure of the network.

Only the shell's own ``read`` reads standard input, one byte at a time, so that no other process
consumes a part of the next script. At the end of each script, the shell prints a mark on both
outputs, followed by the exit code on standard output. No script knows the mark.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

OnBytes = Callable[[bytes], None]

HEARTBEAT: Final = b":\n"
END: Final = b"ktrdr_end\n"
START: Final = b"go\n"
# Print the name of the shell that reads this, and of its user. It means the same to every shell.
NAME_SHELL: Final = (
    """sh -c 'read -r shell </proc/$PPID/comm; echo "ktrdr-shell $shell $LOGNAME"'"""
)
HEARTBEAT_INTERVAL_S: Final = 10.0
GRACE_S: Final = 5
_TICK_S: Final = 5
_TICKS: Final = 9
# The messages that ssh writes to the script's own standard error. One of them is always the last.
_DISCONNECT: Final = re.compile(
    rb"^(?:Connection to|Read from remote host) [^\r\n]*\r?\n?\Z", re.MULTILINE
)
_DISCONNECTED: Final = re.compile(
    rb"Connection to \S+ closed by remote host\.|Read from remote host \S+: [^\r\n]+"
)


def _shell_file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


_OPENING: Final = _shell_file("opening.sh").replace("@name@", NAME_SHELL)
_SESSION: Final = _shell_file("session.sh")
_SUBSHELL_FRAME: Final = _shell_file("subshell_frame.sh")
_INLINE_FRAME: Final = _shell_file("inline_frame.sh")


def session_setup(
    mark: str, *, tick_s: int = _TICK_S, ticks: int = _TICKS, grace_s: int = GRACE_S
) -> bytes:
    """Return the text that sets up the session. The shell prints the mark when it is ready.

    Args:
        mark: Word that no output contains.
        tick_s: Interval of the guard's checks (s).
        ticks: Number of checks without a line from the caller after which the session ends.
        grace_s: Time between SIGTERM and SIGKILL (s).
    """
    settings = f"ktrdr_mark={mark}\nktrdr_tick_s={tick_s}\nktrdr_ticks={ticks}\n"
    return f"{_OPENING}{settings}ktrdr_grace_s={grace_s}\n{_SESSION}".encode()


def subshell_frame(script: str) -> bytes:
    """Frame a script that runs in a subshell, with an empty standard input."""
    return _enclose(script, _SUBSHELL_FRAME)


def inline_frame(script: str) -> bytes:
    """Frame a script for the session's own shell, which keeps the descriptors that it opens.

    The script returns its exit code with ``return``. Later scripts inherit descriptor 9, if the
    script opens it, and close it unless they need it. The session releases it when it ends.
    """
    return _enclose(script, _INLINE_FRAME)


def _enclose(script: str, frame: str) -> bytes:
    before, _, after = frame.partition("@script@")
    # The frame's indentation could change a script's first line.
    return START + f"{before.rstrip(' ')}{script}{after}".encode()


class MarkedOutput:
    """Output stream of one script, which ends with the session's mark.

    Attributes:
        is_complete: Whether the mark has arrived.
        exit_code: Exit code after the mark, or 0 if there is none.
    """

    def __init__(self, mark: str, on_bytes: OnBytes) -> None:
        self.is_complete = False
        self.exit_code = 0
        self._mark = mark.encode()
        self._pattern = re.compile(re.escape(self._mark) + rb"(?: (\d+))?\n")
        self._on_bytes = on_bytes
        self._pending = b""

    def feed(self, data: bytes) -> None:
        """Report the next bytes, except those that may belong to the mark."""
        data = self._pending + data
        if match := self._pattern.search(data):
            self.is_complete, self.exit_code = True, int(match[1] or 0)
            end, self._pending = match.start(), data[match.end() :]
        else:
            end = self._uncertain_from(data)
            self._pending = data[end:]
        self._on_bytes(data[:end])

    def finish(self) -> str:
        """Report the rest at the end of the stream; return the last message of ssh, if any."""
        rest, self._pending = self._pending, b""
        if match := _DISCONNECTED.match(rest):
            return match[0].decode("utf-8", "replace")
        self._on_bytes(rest)
        return ""

    def _uncertain_from(self, data: bytes) -> int:
        """Return the position at which an incomplete mark, or ssh's last message, may begin."""
        if match := _DISCONNECT.search(data):
            return match.start()
        start = data.find(self._mark)
        if start >= 0:
            return start
        lengths = range(min(len(self._mark) - 1, len(data)), 0, -1)
        partial = (length for length in lengths if self._mark.startswith(data[-length:]))
        return len(data) - next(partial, 0)
