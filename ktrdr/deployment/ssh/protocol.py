"""The protocol of a shell on a host that runs one script after the other over one connection.

``sh -s`` reads commands from its standard input, and what it reads here are compound commands, of
which it runs nothing before it has read all: a script of which only a part arrived does nothing.
Standard input is at the same time the line that tells the host whether the caller is there:

- while a script runs, a watcher reads it. A beat (`BEAT`) says that the caller is there;
  `END`, or the end of the input, ends the script: SIGTERM for the session's whole process group, so
  that traps run, and SIGKILL `GRACE_S` later;
- between scripts the shell itself reads it, until `GO` announces the next one;
- a guard, which every line heard resets, ends all of it after `SILENCE_S` without any: the network
  was cut without a word.

Only the shell's own ``read`` reads there, a byte at a time, so that nothing of a script is lost to
whoever reads before it. At the end of each script a mark that nobody else knows is printed on both
outputs, on standard output with the exit code behind it.
"""

from __future__ import annotations

from typing import Final

BEAT: Final = b":\n"
END: Final = b"ktrdr_end\n"
GO: Final = b"go\n"
BEAT_EVERY_S: Final = 10.0
GRACE_S: Final = 5
_TICK_S: Final = 5
_TICKS: Final = 9
SILENCE_S: Final = _TICK_S * _TICKS

# What signals have ended, the shell would comment on: its own words go nowhere. A line of ours that
# comes when a script has just ended is read as a command, and does nothing. The watcher is killed,
# since a kinder signal is lost on a shell that is just being forked; for the same reason what is
# ended is told so twice, and what survives that is killed with the shell.
_OPENING: Final = """{{
ktrdr_mark={mark}
ktrdr_end() {{ :; }}
exec 3<&0 4>&2 2>/dev/null
ktrdr_ended=
trap 'ktrdr_ended=yes' TERM
trap '' USR1
trap 'kill -KILL 0' EXIT
ktrdr_die() {{
    trap '' TERM
    kill -TERM 0
    sleep {grace_s} 3<&-
    kill -KILL 0
}}
(
    trap '' TERM
    trap 'ktrdr_missed=0' USR1
    ktrdr_missed=0
    while [ "$ktrdr_missed" -lt {ticks} ]; do
        ktrdr_missed=$((ktrdr_missed + 1))
        sleep {tick_s}
        kill -0 $$ || exit
    done
    ktrdr_die
) </dev/null >/dev/null 3<&- 4>&- &
ktrdr_guard=$!
ktrdr_read() {{ read -r ktrdr_line <&3 || return; kill -USR1 "$ktrdr_guard" || :; }}
ktrdr_watch() {{
    trap - TERM EXIT
    while ktrdr_read; do [ "$ktrdr_line" = : ] || break; done
    ktrdr_die
}}
ktrdr_done() {{
    kill -KILL "$ktrdr_watcher"
    wait "$ktrdr_watcher"
    [ -z "$ktrdr_ended" ] || kill -TERM 0
    ktrdr_next "$1"
}}
ktrdr_next() {{
    printf '%s %s\\n' "$ktrdr_mark" "$1"
    printf '%s\\n' "$ktrdr_mark" >&4
    while ktrdr_read; do [ "$ktrdr_line" != go ] || return 0; done
    exit 0
}}
ktrdr_next 0
}}
"""
_BEGIN: Final = """{
ktrdr_watch >/dev/null 4>&- 9>&- &
ktrdr_watcher=$!
"""
_APART: Final = f"""{_BEGIN}(
trap - TERM EXIT USR1
@script@
) </dev/null 2>&4 3<&- 4>&- 9>&-
ktrdr_done $?
}}
"""
_WITHIN: Final = f"""{_BEGIN}ktrdr_within() {{
@script@
}}
ktrdr_within </dev/null 2>&4
ktrdr_done $?
}}
"""


def opening(
    mark: str, *, tick_s: int = _TICK_S, ticks: int = _TICKS, grace_s: int = GRACE_S
) -> bytes:
    """What the shell is told first; it answers with the mark.

    Args:
        mark: A word that no output holds.
        tick_s: How often the guard looks (s).
        ticks: After so many looks without a line in between, all is ended.
        grace_s: How long what is ended has before it is killed (s).
    """
    text = _OPENING.format(mark=mark, grace_s=grace_s, tick_s=tick_s, ticks=ticks)
    return text.encode()


def apart(script: str) -> bytes:
    """The script in a shell of its own, with an empty standard input."""
    return GO + _APART.replace("@script@", script).encode()


def within(lines: str) -> bytes:
    """Lines for the shell itself, which keeps what they open; they ``return`` their exit code.

    A descriptor 9 that they open is closed for all scripts, and ends with the shell.
    """
    return GO + _WITHIN.replace("@script@", lines).encode()
