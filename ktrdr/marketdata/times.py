"""The ways in which the world's files write times, and which of them a file follows.

Times are whole seconds since 1970 in UTC. Standard library only.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from ktrdr.errors import UsageError

ReadTime = Callable[[str, int | None], int]
"""Reads a time, given that of the row before; a ValueError says what is wrong with it."""

# What the numerical libraries can hold in nanoseconds, and more than any exchange has recorded.
FIRST_YEAR: Final = 1700
LAST_YEAR: Final = 2200
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  # compared with others that lack a zone
_EPOCH_UTC: Final = datetime(1970, 1, 1, tzinfo=UTC)
_CLOCK: Final = (
    r"(?:[ T]+(?P<H>[0-9]{1,2}):?(?P<M>[0-9]{2})(?::?(?P<S>[0-9]{2})(?:\.0+)?)?"
    r"(?: ?(?P<half>[AaPp])[Mm])?)?"
)
_SHAPES: Final = {
    "mdy": re.compile(rf"(?P<m>[0-9]{{1,2}})([/-])(?P<d>[0-9]{{1,2}})\2(?P<y>[0-9]{{4}}){_CLOCK}"),
    "dmy": re.compile(rf"(?P<d>[0-9]{{1,2}})([/.-])(?P<m>[0-9]{{1,2}})\2(?P<y>[0-9]{{4}}){_CLOCK}"),
    "ymd": re.compile(
        rf"(?P<y>[0-9]{{4}})([/.]?)(?P<m>[0-9]{{2}})\2(?P<d>[0-9]{{2}})"
        rf"{_CLOCK.replace('[ T]+', '[ T]*')}"
    ),
}
_EXAMPLES: Final = {
    "iso": "2020-01-31T14:30:00Z",
    "ymd": "20200131, 2020.01.31 or 2020/01/31",
    "mdy": "1/31/2020",
    "dmy": "31/1/2020 or 31.1.2020",
    "epoch": "seconds since 1970",
    "epoch-ms": "milliseconds since 1970",
}
FORMATS: Final = tuple(_EXAMPLES)
_DIGITS: Final = {"epoch": range(1, 12), "epoch-ms": range(12, 15)}


def reader_of(date_format: str, zone: str) -> ReadTime:
    """Reads times that are written in one way.

    Args:
        date_format: One of FORMATS, or a format of strptime.
        zone: The zone of times that carry none. Of two that a clock shows twice, the earlier is
            taken, or the later if the row before is not earlier than that.

    Raises:
        UsageError: There is no such format or zone.
    """
    to_seconds = _in_zone(zone)
    if date_format in _DIGITS:
        return _epoch_reader(1000 if date_format == "epoch-ms" else 1)
    parse: Callable[[str], datetime]
    if date_format == "iso":
        parse = _iso
    elif date_format in _SHAPES:
        parse = _shaped(date_format)
    elif "%" in date_format:
        parse = _strptime(date_format)
    else:
        raise UsageError(
            f"{date_format!r} is not a format of dates",
            hint=f"Choose {', '.join(FORMATS)}, or a strptime format such as %d-%b-%Y.",
        )
    return lambda text, previous: to_seconds(parse(text.strip()), previous)


def recognise(examples: Iterable[tuple[int, str]], zone: str) -> str:
    """The format of FORMATS that reads most of a file's first times.

    Args:
        examples: Line and text of each.
        zone: As for `reader_of`.

    Raises:
        UsageError: None reads any, or days and months could be exchanged in all of them.
    """
    times = list(examples)
    readers = {each: reader_of(each, zone) for each in FORMATS}
    fits = {each: sum(_reads(each, readers[each], text) for _, text in times) for each in FORMATS}
    best = max(FORMATS, key=lambda each: fits[each])
    line, example = times[0][0], times[0][1][:40]
    if not fits[best]:
        raise UsageError(
            f"line {line}: {example!r} is not a time that is written in a known way",
            hint=f"Choose one with --date-format: {', '.join(FORMATS)}, or a strptime format.",
        )
    if best == "mdy" and fits["dmy"] == fits["mdy"]:
        raise UsageError(
            f"line {line}: {example!r} may be M/D or D/M, and so may all times that follow it",
            hint="Say which with --date-format mdy or --date-format dmy.",
        )
    return best


def _reads(date_format: str, read: ReadTime, text: str) -> bool:
    digits = _DIGITS.get(date_format)
    if digits is not None and len(text.strip().partition(".")[0]) not in digits:
        return False
    try:
        read(text, None)
    except (ValueError, OverflowError):
        return False
    return True


def _iso(text: str) -> datetime:
    # Python would read 20200131 and 2020-W05-5, too.
    if text[4:5] != "-" or "W" in text:
        raise _not_a_time(text, "iso")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise _not_a_time(text, "iso") from None


def _shaped(name: str) -> Callable[[str], datetime]:
    shape = _SHAPES[name]

    def read(text: str) -> datetime:
        found = shape.fullmatch(text)
        if found is None:
            raise _not_a_time(text, name)
        part = found.groupdict()
        hour = int(part["H"] or 0)
        if part["half"]:
            # Hours go from 12 over 1 to 11; others are none, and datetime says so.
            hour = hour % 12 + (12 if part["half"] in "Pp" else 0) if 1 <= hour <= 12 else 99
        try:
            return datetime(  # noqa: DTZ001  # the zone is added by whoever asks
                int(part["y"]),
                int(part["m"]),
                int(part["d"]),
                hour,
                int(part["M"] or 0),
                int(part["S"] or 0),
            )
        except ValueError:
            raise _not_a_time(text, name) from None

    return read


def _strptime(pattern: str) -> Callable[[str], datetime]:
    try:
        # An unknown directive is told only when something is read.
        datetime.strptime(  # noqa: DTZ007  # only tried
            datetime(2000, 1, 31, tzinfo=UTC).strftime(pattern), pattern
        )
    except (ValueError, re.error, UnicodeError) as exc:
        raise UsageError(
            f"{pattern!r} is not a format that strptime reads back",
            hint="See the format codes of Python's datetime.",
        ) from exc

    def read(text: str) -> datetime:
        try:
            return datetime.strptime(text, pattern)  # noqa: DTZ007  # added by whoever asks
        except ValueError:
            raise ValueError(f"{text!r} is not a time like {pattern}") from None

    return read


def _epoch_reader(divisor: int) -> ReadTime:
    unit = "milliseconds" if divisor == 1000 else "seconds"

    def read(text: str, previous: int | None) -> int:  # noqa: ARG001  # ReadTime's signature
        whole, _, fraction = text.strip().partition(".")
        digits = whole.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= 15) or fraction.strip(
            "0"
        ):
            raise ValueError(f"{text!r} is not a number of {unit}")
        seconds, rest = divmod(int(whole), divisor)
        if rest:
            raise ValueError(f"{text!r} has fractions of a second")
        return _plausible(seconds, text)

    return read


def _in_zone(name: str) -> Callable[[datetime, int | None], int]:
    zone = _zone(name)

    def to_seconds(time: datetime, previous: int | None) -> int:
        if time.tzinfo is not None:
            return _since_epoch(time, time - _EPOCH_UTC)
        local = _since_epoch(time, time - _EPOCH)
        if zone is None:
            return local
        placed = time.replace(tzinfo=zone)
        early = _offset(placed)
        late = _offset(placed.replace(fold=1))
        if early < late:
            raise ValueError(f"{time} does not exist in {name}: its clocks are put forward there")
        first = local - early
        return first if previous is None or previous < first else local - late

    return to_seconds


def _zone(name: str) -> ZoneInfo | None:
    """A zone, or None for UTC."""
    if name in ("UTC", "Etc/UTC"):
        return None
    known = available_timezones()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise UsageError(
            f"{name!r} is not a time zone",
            hint=f"Did you mean {near[0]}?" if near else "Write it like Europe/Berlin.",
        )
    return ZoneInfo(name)


def _offset(time: datetime) -> int:
    offset = time.utcoffset() or timedelta()
    return offset.days * 86_400 + offset.seconds


def _since_epoch(time: datetime, passed: timedelta) -> int:
    if passed.microseconds:
        raise ValueError(f"{time} has fractions of a second")
    return _plausible(passed.days * 86_400 + passed.seconds, time)


_FIRST: Final = int(datetime(FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp())
_LAST: Final = int(datetime(LAST_YEAR, 1, 1, tzinfo=UTC).timestamp())


def _plausible(seconds: int, shown: object) -> int:
    if not _FIRST <= seconds < _LAST:
        raise ValueError(f"{str(shown)!r} is not between the years {FIRST_YEAR} and {LAST_YEAR}")
    return seconds


def _not_a_time(text: str, name: str) -> ValueError:
    return ValueError(f"{text!r} is not a time like {_EXAMPLES[name]}")
