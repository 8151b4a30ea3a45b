"""Protocol of a remote shell that runs one script after the other over one connection.

``sh -s`` reads commands from its standard input. It reads compound commands here, and runs nothing
of one before all of it has arrived: a script that arrived in part does nothing. Standard input also
tells the host whether the caller is alive:

- While a script runs, a watcher reads it. `HEARTBEAT` says that the caller is alive. `END`, or the
  end of the input, ends the script: the session's whole process group gets SIGTERM, so that traps
  run, and SIGKILL `GRACE_S` later.
- Between scripts the shell itself reads it, until `START` announces the next one.
- A guard ends the session after 45 s without any line: the network was cut silently.

Only the shell's own ``read`` reads there, one byte at a time, so that no other process consumes a
part of the next script. At the end of each script the shell prints a mark on both outputs, with the
exit code behind it on standard output. No script knows the mark.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

HEARTBEAT: Final = b":\n"
END: Final = b"ktrdr_end\n"
START: Final = b"go\n"
HEARTBEAT_INTERVAL_S: Final = 10.0
GRACE_S: Final = 5
_TICK_S: Final = 5
_TICKS: Final = 9


def _shell_file(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


_SESSION: Final = _shell_file("session.sh")
_SUBSHELL_FRAME: Final = _shell_file("subshell_frame.sh")
_INLINE_FRAME: Final = _shell_file("inline_frame.sh")


def session_setup(
    mark: str, *, tick_s: int = _TICK_S, ticks: int = _TICKS, grace_s: int = GRACE_S
) -> bytes:
    """Return the text that sets up the session. The shell answers it with the mark.

    Args:
        mark: A word that no output holds.
        tick_s: Interval at which the guard looks (s).
        ticks: Number of looks without a line from the caller after which the session ends.
        grace_s: Time between SIGTERM and SIGKILL (s).
    """
    settings = f"ktrdr_mark={mark}\nktrdr_tick_s={tick_s}\nktrdr_ticks={ticks}\n"
    return f"{settings}ktrdr_grace_s={grace_s}\n{_SESSION}".encode()


def subshell_frame(script: str) -> bytes:
    """Frame a script that runs in a subshell, with an empty standard input."""
    return _enclose(script, _SUBSHELL_FRAME)


def inline_frame(script: str) -> bytes:
    """Frame a script for the session's own shell, which keeps the descriptors that it opens.

    The script returns its exit code with ``return``. The session closes descriptor 9, if the script
    opens it, for all later scripts, and releases it when it ends.
    """
    return _enclose(script, _INLINE_FRAME)


def _enclose(script: str, frame: str) -> bytes:
    before, _, after = frame.partition("@script@")
    # Without the frame's indentation, which could change a script's first line.
    return START + f"{before.rstrip(' ')}{script}{after}".encode()
