"""Ties a remote script's life to the connection it came over.

A shell that sshd started without a terminal gets no signal when its connection ends: the script
runs on, unseen. Here standard input serves as the line between the two. The script stands in a
subshell without it, and a watcher reads from it: a beat every `BEAT_EVERY_S` means that the caller
is there. When the input ends (the caller closed it, or sshd did because the connection broke), or
stays silent for `SILENCE_S` (the network was cut without a word), the watcher ends the session's
whole process group: SIGTERM, so that the script's traps run, and SIGKILL `GRACE_S` later.
"""

from __future__ import annotations

from typing import Final

# Not empty: the watcher takes an empty line for the end.
BEAT: Final = b".\n"
BEAT_EVERY_S: Final = 10.0
SILENCE_S: Final = 45
GRACE_S: Final = 5
# What ssh exits with for faults of its own; a script that chooses it is said to have chosen 254.
SSH_FAILED: Final = 255

# One compound command: the shell reads it to its end before it runs any of it, so that a script of
# which only a part arrived does nothing. The shell's own word on what a signal ended is left out.
# Where there is no `timeout`, silence goes unnoticed.
_HEAD: Final = """{{
exec 3<&0 4>&2 2>/dev/null
trap 'ktrdr_ended=yes' TERM
(
    ktrdr_limit=
    command -v timeout && ktrdr_limit='timeout -s KILL {silence_s}'
    while [ -n "$($ktrdr_limit head -n 1)" ]; do :; done
    trap '' TERM
    kill -TERM 0
    sleep {grace_s}
    kill -KILL 0
) <&3 3<&- 4>&- >/dev/null &
ktrdr_watcher=$!
(
"""
_TAIL: Final = f"""
) </dev/null 2>&4 3<&- 4>&-
ktrdr_code=$?
[ -n "${{ktrdr_ended-}}" ] || kill -TERM "$ktrdr_watcher"
[ "$ktrdr_code" != {SSH_FAILED} ] || ktrdr_code={SSH_FAILED - 1}
exit "$ktrdr_code"
}}
"""


def with_lifeline(script: str, *, silence_s: int = SILENCE_S, grace_s: int = GRACE_S) -> str:
    """The script, made to end when its standard input does.

    Args:
        script: What to run; `BEAT` has to be sent after it until it has ended.
        silence_s: Seconds without a beat after which it is ended.
        grace_s: Seconds it then has before it is killed.
    """
    return _HEAD.format(silence_s=silence_s, grace_s=grace_s) + script + _TAIL
