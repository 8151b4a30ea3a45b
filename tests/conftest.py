"""Setup of every test run."""

from __future__ import annotations

import signal

# A run in the background of a shell ignores Ctrl-C, and child processes would inherit that.
# Tests send Ctrl-C to them on purpose.
signal.signal(signal.SIGINT, signal.default_int_handler)
