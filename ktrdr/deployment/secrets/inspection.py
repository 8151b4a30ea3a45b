"""What can be said of a vault's fields without showing one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import BaseModel

from ktrdr.deployment.secrets.requirements import MINIMUM_LENGTHS, complaint
from ktrdr.deployment.secrets.source import FIELDS
from ktrdr.deployment.secrets.strength import ENOUGH_BITS, ENOUGH_BITS_OF_KEY, strength
from ktrdr.secret import SHORTEST_SCRUBBED, Secret

_ENOUGH: Final = {
    "db_password": ENOUGH_BITS,
    "grafana_password": ENOUGH_BITS,
    "jwt_secret": ENOUGH_BITS_OF_KEY,
}


class Finding(BaseModel):
    """One field.

    Attributes:
        field: Its name.
        present: Whether it is there and not blank.
        long_enough: Whether it has its least length.
        usable: Whether a deploy takes it.
        strength: ``strong`` or ``weak``; ``not measured`` for names, for tokens that somebody else
            has made, and for what is not usable anyway.
        remarks: What is wrong with it, as ends of a sentence that begins with its name.
    """

    field: str
    present: bool
    long_enough: bool
    usable: bool
    strength: Literal["strong", "weak", "not measured"]
    remarks: tuple[str, ...]


def inspect(fields: Mapping[str, Secret]) -> list[Finding]:
    """Looks at every field that KTRDR asks for.

    Args:
        fields: What the source gave, by name.
    """
    return [_finding(name, fields) for name in FIELDS]


def _finding(name: str, fields: Mapping[str, Secret]) -> Finding:
    secret = fields.get(name)
    value = secret.reveal() if secret else ""
    wrong = complaint(name, secret)
    remarks = [wrong.removeprefix(f"{name} ")] if wrong else []
    weak = False
    measurable = name in _ENOUGH and wrong is None
    if secret and measurable:
        others = [other for other in _ENOUGH if other != name and fields.get(other) == secret]
        measured = strength(secret)
        weak = measured.bits < _ENOUGH[name] or bool(others)
        if weak:
            remarks += [f"is the same as {other}" for other in others]
            remarks += measured.weaknesses or (() if others else ("can be guessed",))
    return Finding(
        field=name,
        present=bool(value.strip()),
        long_enough=len(value) >= MINIMUM_LENGTHS.get(name, SHORTEST_SCRUBBED),
        usable=wrong is None,
        strength=("weak" if weak else "strong") if measurable else "not measured",
        remarks=tuple(remarks),
    )
