"""What a host says of secrets that are delivered in its memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Delivery:
    """How the containers of a host get their secrets.

    Attributes:
        in_memory: Whether they are files in its memory, rather than environment.
        missing: The consumers whose files are gone, as after a reboot: their containers cannot
            start. For the core these are services, for workers all of them are one consumer.
    """

    in_memory: bool = False
    missing: tuple[str, ...] = ()

    def complaint(self, command: str) -> str | None:
        """What is wrong and what to do about it, in a sentence; None where nothing is.

        Args:
            command: What deploys the host, such as ``ktrdr deploy core all``.
        """
        if not self.missing:
            return None
        return (
            f"its memory holds no secrets for {' and '.join(self.missing)} (was it rebooted?), "
            f"so that these cannot start: run `{command}`"
        )


def read_delivery(lines: Iterable[str]) -> Delivery:
    """Reads the section ``delivery`` of `commands.delivery.presence`."""
    pairs = [line.split() for line in lines if line.startswith(("present ", "absent "))]
    missing = tuple(name for state, name in pairs if state == "absent")
    return Delivery(in_memory=bool(pairs), missing=missing)
