"""Tells any number of waits at once that they are to end."""

from __future__ import annotations

import os


class Bell:
    """Once rung it stays so; whoever wants to talk on takes a new one."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def fileno(self) -> int:
        """What becomes readable when it rings."""
        return self._read

    def ring(self) -> None:
        """Ends the waits that listen."""
        os.write(self._write, b"!")

    def __del__(self) -> None:
        # Whoever listens holds a reference, so that nobody does any more.
        os.close(self._read)
        os.close(self._write)
