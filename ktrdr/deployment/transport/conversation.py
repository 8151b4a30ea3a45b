"""Talks with one ssh process: feeds it, reads it, keeps its lifeline alive, and ends it."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import IO, Final

from ktrdr.deployment.transport.lifeline import BEAT, BEAT_EVERY_S, GRACE_S
from ktrdr.errors import Interrupted

_CHUNK: Final = 65536
# How long the remote script may take to end, and then ssh itself.
_ENDING_S: Final = GRACE_S + 2.0
_EXIT_S: Final = 1.0

Feed = Callable[[bytes], None]


class Bell:
    """Tells any number of conversations at once that they are to end.

    Once rung it stays so; whoever wants to talk on takes a new one.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()

    def fileno(self) -> int:
        """What becomes readable when it rings."""
        return self._read

    def ring(self) -> None:
        """Ends the conversations that listen."""
        os.write(self._write, b"!")

    def __del__(self) -> None:
        # Whoever listens holds a reference, so that nobody does any more.
        os.close(self._read)
        os.close(self._write)


class Conversation:
    """One ssh process and its three streams.

    Args:
        process: Started with pipes for all three, unbuffered.
        to_send: What goes to its standard input first.
        outputs: What takes the bytes of ``stdout`` and ``stderr``.
        bell: Ends the conversation when it rings.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        to_send: bytes,
        outputs: Mapping[IO[bytes], Feed],
        bell: Bell | None = None,
    ) -> None:
        self._bell = bell
        self._process = process
        self._input = opened(process.stdin)
        self._unsent = memoryview(to_send)
        self._selector = selectors.DefaultSelector()
        self._next_beat = time.monotonic() + BEAT_EVERY_S
        for pipe, feed in outputs.items():
            self._selector.register(pipe, selectors.EVENT_READ, feed)
        if bell:
            self._selector.register(bell, selectors.EVENT_READ)
        os.set_blocking(self._input.fileno(), False)
        self._selector.register(self._input, selectors.EVENT_WRITE)

    def run(self, timeout_s: float) -> int:
        """Goes on until the process has ended, and returns its exit code.

        Raises:
            TimeoutError: The time was up; the process has been ended, on the host too.
            Interrupted: The bell rang; the same.
        """
        deadline = time.monotonic() + timeout_s
        try:
            if not self._exchange(deadline):
                raise TimeoutError
            return self._process.wait()
        finally:
            # Reached by Ctrl-C too: whatever runs on the host must not outlive this call.
            self._end()

    def _exchange(self, deadline: float) -> bool:
        """Reads and writes until all output has ended; False when the deadline came first."""
        while self._has_output():
            now = time.monotonic()
            if now >= deadline:
                return False
            if now >= self._next_beat:
                self._beat(now)
            for key, _ in self._selector.select(min(deadline, self._next_beat) - now):
                if key.fileobj is self._input:
                    self._send()
                elif key.fileobj is self._bell:
                    raise Interrupted("the script was ended")
                else:
                    self._receive(key)
        return True

    def _has_output(self) -> bool:
        return any(
            key.events & selectors.EVENT_READ and key.fileobj is not self._bell
            for key in self._selector.get_map().values()
        )

    def _receive(self, key: selectors.SelectorKey) -> None:
        if data := os.read(key.fd, _CHUNK):
            key.data(data)
        else:
            self._selector.unregister(key.fileobj)

    def _send(self) -> None:
        try:
            self._unsent = self._unsent[os.write(self._input.fileno(), self._unsent[:_CHUNK]) :]
        except BrokenPipeError:
            self._unsent = self._unsent[:0]
        if not self._unsent:
            self._selector.unregister(self._input)

    def _beat(self, now: float) -> None:
        self._next_beat = now + BEAT_EVERY_S
        if not self._unsent and not self._input.closed:
            self._unsent = memoryview(BEAT)
            self._selector.register(self._input, selectors.EVENT_WRITE)

    def _end(self) -> None:
        """Cuts the lifeline, waits for the script to end of it, and then for ssh."""
        try:
            if self._bell:
                self._selector.unregister(self._bell)
            self._hang_up()
            self._exchange(time.monotonic() + _ENDING_S)
        finally:
            self._selector.close()
            end_process(self._process)

    def _hang_up(self) -> None:
        if self._unsent:
            self._unsent = self._unsent[:0]
            self._selector.unregister(self._input)
        self._input.close()
        self._next_beat = float("inf")


def opened(pipe: IO[bytes] | None) -> IO[bytes]:
    """The pipe of a process that was started with one."""
    if pipe is None:
        raise ValueError("the process was started without this pipe")
    return pipe


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that may still run, first kindly, and closes what was open to it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
