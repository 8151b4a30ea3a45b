"""The operator's own programs, run on their machine before and after a deploy.

They stand as executables in `DIRECTORY` of the checkout, each under the name of its moment. What
they are told stands in their environment; what they write is shown, without secrets.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final

from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.deploy.result import DeployResult
from ktrdr.deployment.homelab.inventory import HookSettings
from ktrdr.deployment.hosts.history import Outcome
from ktrdr.deployment.ssh.output import OutputCollector
from ktrdr.errors import ConfigurationError, Conflict, Interrupted, KtrdrError
from ktrdr.secret import Scrubber, Secret

DIRECTORY: Final = ".ktrdr/hooks"
SECRET_PREFIX: Final = "KTRDR_SECRET_"  # noqa: S105  # the beginning of a variable's name
# What a program needs to run at all, to find its user's files, and to show a notification. Not what
# else there is: tokens stand in an environment, and with some vaults every secret does.
_PASSED_ON: Final = frozenset(
    (
        "COLORTERM", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "HOME", "LANG", "LANGUAGE", "LOGNAME",
        "NO_COLOR", "PATH", "SHELL", "SSH_AUTH_SOCK", "TERM", "TMPDIR", "TZ", "USER",
        "WAYLAND_DISPLAY", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR",
    )
)  # fmt: skip
_LOCALE: Final = "LC_"
_GRACE_S: Final = 2.0
_CHUNK: Final = 65536
# A process that a hook left running in the background keeps its output open: it is not waited for.
_LINGER_S: Final = 0.2


class Hook(StrEnum):
    """The moments, by the names of the files."""

    # May veto, by any exit code but 0.
    PRE_DEPLOY = "pre-deploy"
    POST_DEPLOY = "post-deploy"
    ON_FAILURE = "on-failure"
    # At the end of every deploy, whatever came of it.
    NOTIFY = "notify"


@dataclass(frozen=True, slots=True)
class Facts:
    """What hooks are told of a deploy.

    Attributes:
        release: Its id.
        kind: What it is: ``deploy`` or ``rollback``.
        tag: The image's tag.
        commit: The commit of the configuration; empty for that of a working tree.
        service: The service it is about, or ``all``.
        targets: What the operator calls the hosts.
        hosts: Their names for ssh, in the same order.
        performer: The person and their machine.
        outcome: What came of it; empty before it is over.
        duration_s: Seconds it took; None before it is over.
        reason: Why it failed, in one sentence; else empty.
    """

    release: str
    kind: str
    tag: str
    commit: str
    service: str
    targets: tuple[str, ...]
    hosts: tuple[str, ...]
    performer: str
    outcome: str = ""
    duration_s: float | None = None
    reason: str = ""

    def environment(self) -> dict[str, str]:
        """Them as variables."""
        took = "" if self.duration_s is None else f"{self.duration_s:.1f}"
        return {
            "KTRDR_RELEASE": self.release,
            "KTRDR_KIND": self.kind,
            "KTRDR_TAG": self.tag,
            "KTRDR_COMMIT": self.commit,
            "KTRDR_SERVICE": self.service,
            "KTRDR_TARGETS": ", ".join(self.targets),
            "KTRDR_HOSTS": " ".join(self.hosts),
            "KTRDR_PERFORMER": self.performer,
            "KTRDR_OUTCOME": self.outcome,
            "KTRDR_DURATION_S": took,
            "KTRDR_REASON": self.reason,
        }


def facts_of(plans: Sequence[Plan]) -> Facts:
    """What there is to tell before anything has happened."""
    entry = plans[0].entry
    return Facts(
        release=entry.id,
        kind=entry.kind.value,
        tag=entry.tag,
        commit=entry.commit or "",
        service=entry.service,
        targets=tuple(plan.site.name for plan in plans),
        hosts=tuple(plan.site.host for plan in plans),
        performer=entry.who,
    )


def concluded(facts: Facts, result: DeployResult) -> Facts:
    """The same with what has come of it."""
    error = result.failed[0].error if result.failed else None
    if error is not None:
        return failed(facts, error, result.duration_s)
    outcome = Outcome.DEPLOYED if result.changed else Outcome.UNCHANGED
    return replace(facts, outcome=outcome.value, duration_s=result.duration_s)


def failed(facts: Facts, error: KtrdrError, duration_s: float) -> Facts:
    """The same where it came to nothing."""
    outcome = Outcome.INTERRUPTED if isinstance(error, Interrupted) else Outcome.FAILED
    return replace(facts, outcome=outcome.value, duration_s=duration_s, reason=error.message)


@dataclass(frozen=True, slots=True)
class Ended:
    """A hook that was run.

    Attributes:
        hook: Which.
        exit_code: What it ended with; None where its time was up.
        duration_s: Seconds it took.
        last_line: The last line that it wrote, scrubbed.
    """

    hook: Hook
    exit_code: int | None
    duration_s: float
    last_line: str

    @property
    def is_good(self) -> bool:
        """Whether it was content."""
        return self.exit_code == 0

    def __str__(self) -> str:
        name = f"the hook {DIRECTORY}/{self.hook}"
        if self.exit_code is None:
            return f"{name} was ended after {self.duration_s:.0f} s, when its time was up"
        said = f": {self.last_line}" if self.last_line else ""
        return f"{name} ended with exit code {self.exit_code}{said}"


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks of a checkout.

    Attributes:
        root: The checkout, in which they run.
        settings: What the inventory says of them.
        environ: The operator's environment, of which they get a part.
        tell: Is given each line that they write, scrubbed, with the hook's name.
        scrubber: Cleans what they write.
        secrets: The vault's fields by name, of which they get those that the inventory names.
    """

    root: Path
    settings: HookSettings
    environ: Mapping[str, str]
    tell: Callable[[Hook, str], None]
    scrubber: Scrubber = field(default_factory=Scrubber)
    secrets: Mapping[str, Secret] = field(default_factory=dict)

    def ask(self, facts: Facts) -> None:
        """Runs ``pre-deploy``, if there is one.

        Raises:
            Conflict: It does not allow the deploy, or took too long to say so.
            ConfigurationError: It is there, and cannot be run.
        """
        ended = self.run(Hook.PRE_DEPLOY, facts)
        if ended and not ended.is_good:
            raise Conflict(
                f"{ended}, and so does not allow this deploy",
                hint="Nothing was changed; do what it asks for, or take it away.",
            )

    def conclude(self, facts: Facts) -> list[str]:
        """Runs what is to be run at the end; what is returned says which of them failed.

        Args:
            facts: With what has come of it; see `concluded`.
        """
        good = facts.outcome in (Outcome.DEPLOYED, Outcome.UNCHANGED)
        moments = (Hook.POST_DEPLOY if good else Hook.ON_FAILURE, Hook.NOTIFY)
        return [said for hook in moments if (said := self.warn(hook, facts))]

    def warn(self, hook: Hook, facts: Facts) -> str | None:
        """Runs a hook whose failure changes nothing; what is returned says that it failed."""
        try:
            ended = self.run(hook, facts)
        except ConfigurationError as error:
            return error.message
        return None if ended is None or ended.is_good else str(ended)

    def run(self, hook: Hook, facts: Facts) -> Ended | None:
        """Runs a hook to its end, or to the end of its time; None where there is no such hook.

        Raises:
            ConfigurationError: It is there, and cannot be run.
        """
        file = self.root / DIRECTORY / hook.value
        if not os.path.lexists(file):
            return None
        began = time.monotonic()
        lines: list[str] = []

        def take(_: object, line: str) -> None:
            lines.append(line)
            self.tell(hook, line)

        process = self._start(hook, file, facts)
        try:
            code = self._attend(process, OutputCollector("stdout", self.scrubber, on_line=take))
        finally:
            _end(process)
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return Ended(hook, code, time.monotonic() - began, last)

    def environment(self, hook: Hook, facts: Facts) -> dict[str, str]:
        """All that a hook gets to know."""
        asked = {*_PASSED_ON, *self.settings.environment}
        passed = {
            name: text
            for name, text in self.environ.items()
            if name in asked or name.startswith(_LOCALE)
        }
        secrets = {
            f"{SECRET_PREFIX}{name.upper()}": self.secrets[name].reveal()
            for name in self.settings.secrets
            if name in self.secrets
        }
        told = {"KTRDR_HOOK": hook.value, **facts.environment()}
        clean = {name: text.replace("\0", "") for name, text in told.items()}
        return {**passed, **secrets, **clean}

    def _start(self, hook: Hook, file: Path, facts: Facts) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(
                [str(file)],
                cwd=self.root,
                env=self.environment(hook, facts),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except (OSError, ValueError) as exc:
            reason = getattr(exc, "strerror", None) or str(exc)
            raise ConfigurationError(
                f"the hook {DIRECTORY}/{hook} cannot be run: {reason}",
                hint=f"It must be executable (`chmod +x {DIRECTORY}/{hook}`) and begin with "
                "`#!/bin/sh`, or another program's path.",
            ) from exc

    def _attend(self, process: subprocess.Popen[bytes], output: OutputCollector) -> int | None:
        """Reads what it writes until it has ended; None where its time was up before."""
        assert process.stdout  # noqa: S101  # it was started with a pipe
        pipe = process.stdout.fileno()
        deadline = time.monotonic() + self.settings.timeout_s
        while (left := deadline - time.monotonic()) > 0:
            if select.select([pipe], [], [], min(left, _LINGER_S))[0]:
                data = os.read(pipe, _CHUNK)
                output.feed(data)
                if not data:
                    break
            elif process.poll() is not None:
                break
        output.finish()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(max(0.0, deadline - time.monotonic()))
        return None


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a hook that still runs, with all that it has started."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
        _signal(process, signal.SIGKILL)
        process.wait()
    if process.stdout:
        process.stdout.close()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
