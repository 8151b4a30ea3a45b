"""Results of checks: what was examined, and the problems that prevent a deploy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Self

from ktrdr.errors import HostNotReady, KtrdrError


class Problem(NamedTuple):
    """Problem that prevents a deploy.

    Attributes:
        message: Its description, which follows the name of what was examined.
        hint: Remedy in one sentence.
        exit_code: Exit code of a deploy that meets it.
    """

    message: str
    hint: str
    exit_code: int = HostNotReady.exit_code

    @classmethod
    def from_error(cls, error: KtrdrError) -> Self:
        """Return the problem that an error describes."""
        return cls(error.message, error.hint or "", error.exit_code)


class CheckResult(NamedTuple):
    """Result of one check; without problems it is OK.

    Attributes:
        name: What was examined.
        detail: What was found, in a few words.
        problems: What is wrong.
        note: Something worth knowing that is not a problem, in one sentence.
    """

    name: str
    detail: str = ""
    problems: tuple[Problem, ...] = ()
    note: str = ""


def all_problems(results: Iterable[CheckResult]) -> Iterator[Problem]:
    """Yield the problems of all results, in their order."""
    return (problem for result in results for problem in result.problems)


def require_none(subject: str, problems: Iterable[Problem]) -> None:
    """Raise HostNotReady with the messages and remedies of all problems, if there are any."""
    found = list(problems)
    if found:
        raise HostNotReady(
            f"{subject}: {'; '.join(problem.message for problem in found)}",
            hint=" ".join(dict.fromkeys(problem.hint for problem in found)),
        )
