"""Setup of every test run."""

from __future__ import annotations

import gc
import signal

from hypothesis import settings

from tests.thoroughness import examples

settings.register_profile("ktrdr", max_examples=examples(150))
settings.load_profile("ktrdr")

# A run in the background of a shell ignores Ctrl-C, and child processes would inherit that.
# Tests send Ctrl-C to them on purpose.
signal.signal(signal.SIGINT, signal.default_int_handler)

# While tests are collected, almost nothing becomes garbage.
gc.disable()


def pytest_collection_finish() -> None:
    """Exclude from garbage collection what the collection of tests has made; it takes seconds."""
    gc.collect()
    gc.freeze()
    gc.enable()
