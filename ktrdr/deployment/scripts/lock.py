"""The lock of a host: one that the kernel keeps, for as long as a shell of its owner lives there.

The shell in which the owner's scripts run (see `ktrdr.deployment.ssh.protocol`) takes ``flock``
on a file below the work directory, and ends with its connection, however that ends; the lock with
it: there is nothing that could be left behind. What stands in the file says who it is.
"""

from __future__ import annotations

from typing import Final

from ktrdr.deployment.scripts.script import made, quote

# Below the work directory: what a deploy remembers on the host.
RECORDS: Final = ".ktrdr"
# Exit codes of the scripts here; Docker, Compose and the shell use none of them.
BUSY: Final = 75
LOST: Final = 74
NO_FLOCK: Final = 69
HELD: Final = "held"
FREE: Final = "free"

# A word of the note of what goes on by itself after a deploy was cut off, and how long it may (s).
RECOVERY: Final = "recovery after"
RECOVERY_S: Final = 180

# Whoever looks takes the lock, shared, for a moment: those who come then wait at least so long.
_LEAST_WAIT_S: Final = 1
_ENDING_S: Final = 10


def path(workdir: str) -> str:
    """The file that is locked; it stays, and being there means nothing."""
    return f"{workdir}/{RECORDS}/lock"


def hold(workdir: str, note: str, *, wait_s: float) -> str:
    """Takes the lock, for the shell itself to run; it has the lock until `LET_GO`, or its end.

    Args:
        workdir: The work directory, which is made if it is not there.
        note: One line that says whose it is, unique to this owner.
        wait_s: How long to wait for another owner (s); then that one's note is printed, and the
            exit code is `BUSY`. What puts back what an interrupted deploy has left is waited for
            in any case.
    """
    file = quote(path(workdir))
    longer = f"grep -qF {quote(RECOVERY)} {file} && flock -w {RECOVERY_S} 9"
    return f"""command -v flock >/dev/null || return {NO_FLOCK}
( umask 022; {made(f"{workdir}/{RECORDS}")} && exec 9<>{file} ) || return 1
exec 9<>{file}
flock -w {max(_LEAST_WAIT_S, round(wait_s))} 9 ||
{{ {longer}; }} || {{ cat {file}; {LET_GO}; return {BUSY}; }}
printf '%s %s\\n' "$$" {quote(note)} >{file} || :"""


# Gives the lock back, for the shell itself to run.
LET_GO: Final = "exec 9>&-"


def require(workdir: str, note: str) -> str:
    """Ends the script with `LOST` unless the lock is still this owner's."""
    file = quote(path(workdir))
    return f"""if ! grep -qF {quote(note)} {file} 2>/dev/null || flock -n -s {file} true; then
exit {LOST}
fi"""


def show(workdir: str) -> str:
    """Prints ``free``, or ``held`` and on the next line ``PID NOTE``."""
    file = quote(path(workdir))
    return f"""if [ ! -e {file} ] || flock -n -s {file} true; then
echo {FREE}
else
echo {HELD}
cat {file}
fi"""


def release(workdir: str, note: str = "") -> str:
    """Ends the shell that has the lock, and waits until it is free.

    Args:
        workdir: The work directory.
        note: Only this owner's lock is released; by default whoever's it is.
    """
    file = quote(path(workdir))
    ours = f"grep -qF {quote(note)} {file} && " if note else ""
    return f"""if [ -e {file} ] && {ours}! flock -n -s {file} true; then
read -r holder rest <{file}
if [ "$(readlink "/proc/$holder/fd/9")" = "$(readlink -f {file})" ]; then
kill -USR2 "$holder"
fi
flock -w {_ENDING_S} -s {file} true
fi"""
