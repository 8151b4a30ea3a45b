"""The way to a command's hosts, opened while the rest of the command is still being loaded."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from ktrdr.cli.hosts import ssh_program
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.ssh.transport import SshTransport
from ktrdr.errors import KtrdrError
from ktrdr.secret import Scrubber

_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Way:
    """The way to hosts.

    Attributes:
        transport: Runs scripts there.
        scrubber: Cleans all that comes back; it has yet to learn the secrets.
    """

    transport: SshTransport
    scrubber: Scrubber


@contextmanager
def way_to(hosts: Iterable[str], inventory: Inventory, *, at_once: int) -> Iterator[Way]:
    """Begins to connect to all hosts, and asks them for nothing yet.

    A host that cannot be reached says so when it is given its first script.

    Args:
        hosts: Their names for ssh; others may be reached, too, and are connected to then.
        inventory: Says how.
        at_once: So many are connected to at the same time.
    """
    scrubber = Scrubber()
    transport = SshTransport(ssh_program(inventory), scrubber=scrubber)

    def connect(host: str) -> None:
        with suppress(KtrdrError):
            transport.connect(host)

    pool = ThreadPoolExecutor(at_once)
    with signals_as_ctrl_c(), transport:
        try:
            for host in hosts:
                pool.submit(connect, host)
            yield Way(transport, scrubber)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            # The end of the program would wait for whoever still connects.
            transport.interrupt()


@contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """Lets SIGTERM and a closed terminal end a command as orderly as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
