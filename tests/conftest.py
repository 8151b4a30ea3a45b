"""What holds for every test."""

from __future__ import annotations

import signal

# A run that a shell put into the background ignores Ctrl-C, and so would all that it starts, which
# are given one on purpose.
signal.signal(signal.SIGINT, signal.default_int_handler)
