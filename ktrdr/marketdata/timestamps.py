"""Parsers of timestamps in common formats, and detection of a file's format.

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

TimestampParser = Callable[[str, int | None], int]
"""Parse a time, given the time of the previous row; raise a ValueError with the reason."""

# The numerical libraries can represent these years in nanoseconds, and no exchange has older data.
FIRST_YEAR: Final = 1700
LAST_YEAR: Final = 2200
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001  # compared with times without a zone
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
DATE_FORMATS: Final = tuple(_EXAMPLES)
_DIGITS: Final = {"epoch": range(1, 12), "epoch-ms": range(12, 15)}


def timestamp_parser(date_format: str, zone: str) -> TimestampParser:
    """Return a parser of times in one format.

    Args:
        date_format: One of DATE_FORMATS, or a strptime format.
        zone: Time zone of times without a zone. When clocks show a time twice, the parser returns
            the earlier time, or the later one if the previous row is not earlier than that.

    Raises:
        UsageError: The format or the zone does not exist.
    """
    to_seconds = _zone_converter(zone)
    if date_format in _DIGITS:
        return _epoch_parser(1000 if date_format == "epoch-ms" else 1)
    parse: Callable[[str], datetime]
    if date_format == "iso":
        parse = _parse_iso
    elif date_format in _SHAPES:
        parse = _shape_parser(date_format)
    elif "%" in date_format:
        parse = _strptime_parser(date_format)
    else:
        raise UsageError(
            f"{date_format!r} is not a date format",
            hint=f"Choose {', '.join(DATE_FORMATS)}, or a strptime format such as %d-%b-%Y.",
        )
    return lambda text, previous: to_seconds(parse(text.strip()), previous)


def detect_date_format(examples: Iterable[tuple[int, str]], zone: str) -> str:
    """Return the format of DATE_FORMATS that can parse most of a file's first times.

    Args:
        examples: Line numbers and texts of the times.
        zone: Time zone of times without a zone.

    Raises:
        UsageError: No format can parse any time, or day and month are interchangeable in all.
    """
    times = list(examples)
    parsers = {name: timestamp_parser(name, zone) for name in DATE_FORMATS}
    matches = {
        name: sum(_can_parse(name, parser, text) for _, text in times)
        for name, parser in parsers.items()
    }
    best = max(DATE_FORMATS, key=lambda name: matches[name])
    line, example = times[0][0], times[0][1][:40]
    if not matches[best]:
        raise UsageError(
            f"line {line}: {example!r} is not a time in a known format",
            hint=f"Choose one with --date-format: {', '.join(DATE_FORMATS)}, or a strptime format.",
        )
    if best == "mdy" and matches["dmy"] == matches["mdy"]:
        raise UsageError(
            f"line {line}: {example!r} and all following times may be M/D or D/M",
            hint="Choose --date-format mdy or --date-format dmy.",
        )
    return best


def _can_parse(date_format: str, parser: TimestampParser, text: str) -> bool:
    digits = _DIGITS.get(date_format)
    if digits is not None and len(text.strip().partition(".")[0]) not in digits:
        return False
    try:
        parser(text, None)
    except (ValueError, OverflowError):
        return False
    return True


def _parse_iso(text: str) -> datetime:
    # Python also accepts 20200131 and 2020-W05-5.
    if text[4:5] != "-" or "W" in text:
        raise _format_error(text, "iso")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise _format_error(text, "iso") from None


def _shape_parser(name: str) -> Callable[[str], datetime]:
    shape = _SHAPES[name]

    def parse(text: str) -> datetime:
        match = shape.fullmatch(text)
        if match is None:
            raise _format_error(text, name)
        part = match.groupdict()
        hour = int(part["H"] or 0)
        if part["half"]:
            # A 12-hour clock has the hours 12, 1 to 11. The datetime constructor rejects 99.
            hour = hour % 12 + (12 if part["half"] in "Pp" else 0) if 1 <= hour <= 12 else 99
        try:
            return datetime(  # noqa: DTZ001  # the caller adds the zone
                int(part["y"]),
                int(part["m"]),
                int(part["d"]),
                hour,
                int(part["M"] or 0),
                int(part["S"] or 0),
            )
        except ValueError:
            raise _format_error(text, name) from None

    return parse


def _strptime_parser(pattern: str) -> Callable[[str], datetime]:
    try:
        # Python reports an unknown directive only when it parses a time.
        datetime.strptime(  # noqa: DTZ007  # only a test of the format
            datetime(2000, 1, 31, tzinfo=UTC).strftime(pattern), pattern
        )
    except (ValueError, re.error, UnicodeError) as exc:
        raise UsageError(
            f"{pattern!r} is not a format that strptime can parse",
            hint="See the format codes of Python's datetime.",
        ) from exc

    def parse(text: str) -> datetime:
        try:
            return datetime.strptime(text, pattern)  # noqa: DTZ007  # the caller adds the zone
        except ValueError:
            raise ValueError(f"{text!r} does not match the format {pattern}") from None

    return parse


def _epoch_parser(divisor: int) -> TimestampParser:
    unit = "milliseconds" if divisor == 1000 else "seconds"

    def parse(text: str, previous: int | None) -> int:  # noqa: ARG001  # TimestampParser's signature
        whole, _, fraction = text.strip().partition(".")
        digits = whole.removeprefix("-")
        is_number = digits.isascii() and digits.isdecimal() and len(digits) <= 15
        if not is_number or fraction.strip("0"):
            raise ValueError(f"{text!r} is not a number of {unit}")
        seconds, rest = divmod(int(whole), divisor)
        if rest:
            raise ValueError(f"{text!r} has fractions of a second")
        return _check_year(seconds, text)

    return parse


def _zone_converter(name: str) -> Callable[[datetime, int | None], int]:
    zone = _find_zone(name)

    def to_seconds(time: datetime, previous: int | None) -> int:
        if time.tzinfo is not None:
            return _since_epoch(time, time - _EPOCH_UTC)
        local = _since_epoch(time, time - _EPOCH)
        if zone is None:
            return local
        zoned = time.replace(tzinfo=zone)
        early = _offset_seconds(zoned)
        late = _offset_seconds(zoned.replace(fold=1))
        if early < late:
            raise ValueError(f"{time} does not exist in {name}: clocks were put forward")
        first = local - early
        return first if previous is None or previous < first else local - late

    return to_seconds


def _find_zone(name: str) -> ZoneInfo | None:
    """Return a time zone, or None for UTC."""
    if name in ("UTC", "Etc/UTC"):
        return None
    zones = available_timezones()
    if name not in zones:
        nearest = difflib.get_close_matches(name, zones, n=1)
        raise UsageError(
            f"{name!r} is not a time zone",
            hint=f"Did you mean {nearest[0]}?" if nearest else "Write it like Europe/Berlin.",
        )
    return ZoneInfo(name)


def _offset_seconds(time: datetime) -> int:
    offset = time.utcoffset() or timedelta()
    return offset.days * 86_400 + offset.seconds


def _since_epoch(time: datetime, elapsed: timedelta) -> int:
    if elapsed.microseconds:
        raise ValueError(f"{time} has fractions of a second")
    return _check_year(elapsed.days * 86_400 + elapsed.seconds, time)


_FIRST: Final = int(datetime(FIRST_YEAR, 1, 1, tzinfo=UTC).timestamp())
_LAST: Final = int(datetime(LAST_YEAR, 1, 1, tzinfo=UTC).timestamp())


def _check_year(seconds: int, shown: object) -> int:
    if not _FIRST <= seconds < _LAST:
        raise ValueError(f"{str(shown)!r} is not between the years {FIRST_YEAR} and {LAST_YEAR}")
    return seconds


def _format_error(text: str, name: str) -> ValueError:
    return ValueError(f"{text!r} is not a time like {_EXAMPLES[name]}")
