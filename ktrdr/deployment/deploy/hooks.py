"""Hooks: the operator's own programs, run on their machine before and after a deploy.

Hooks are executables in the directory `DIRECTORY` of the checkout, named for when they run. They
receive facts as environment variables. Their output is shown without secrets.
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
from typing import Final, Protocol, Self

from ktrdr.deployment.deploy.plan import Plan
from ktrdr.deployment.deploy.result import DeployResult, outcome_of
from ktrdr.deployment.hosts.history import DeployOutcome
from ktrdr.deployment.ssh.output import OutputCollector
from ktrdr.errors import ConfigurationError, Conflict, KtrdrError
from ktrdr.secret import Scrubber, Secret

DIRECTORY: Final = ".ktrdr/hooks"
SECRET_PREFIX: Final = "KTRDR_SECRET_"  # noqa: S105  # the beginning of a variable's name
# Variables that a program needs to run, to find its user's files, and to show a notification. No
# others: an environment may hold tokens, and with some secret sources every secret.
_INHERITED: Final = frozenset(
    (
        "COLORTERM", "DBUS_SESSION_BUS_ADDRESS", "DISPLAY", "HOME", "LANG", "LANGUAGE", "LOGNAME",
        "NO_COLOR", "PATH", "SHELL", "SSH_AUTH_SOCK", "TERM", "TMPDIR", "TZ", "USER",
        "WAYLAND_DISPLAY", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR",
    )
)  # fmt: skip
_LOCALE_PREFIX: Final = "LC_"
_GRACE_S: Final = 2.0
_CHUNK: Final = 65536
# A background process of a hook keeps the output open. The deploy does not wait for its end.
_LINGER_S: Final = 0.2


class HookSettings(Protocol):
    """Settings of the hooks."""

    @property
    def timeout_s(self) -> int:
        """Return the maximum duration of a hook (s)."""

    @property
    def environment(self) -> Sequence[str]:
        """Return the further variables that hooks inherit."""

    @property
    def secrets(self) -> Sequence[str]:
        """Return the names of the vault's fields that hooks receive."""


class Hook(StrEnum):
    """Hooks by the names of their files."""

    # Refuses the deploy by an exit code other than 0.
    PRE_DEPLOY = "pre-deploy"
    POST_DEPLOY = "post-deploy"
    ON_FAILURE = "on-failure"
    # Runs at the end of every deploy.
    NOTIFY = "notify"


@dataclass(frozen=True, slots=True)
class HookFacts:
    """Facts about a deploy that hooks receive as environment variables.

    Attributes:
        release: The deploy's id.
        kind: ``deploy`` or ``rollback``.
        tag: Tag of the image.
        commit: Commit of the configuration; empty for that of a working tree.
        service: Service that is deployed, or ``all``.
        targets: Names of the hosts.
        hosts: Their addresses, in the same order.
        performer: User and machine.
        outcome: How the deploy ended; empty before that.
        duration_s: Its duration (s); None before its end.
        reason: Cause of a failure in one sentence; empty otherwise.
        skipped: Names of the hosts that were off and skipped.
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
    skipped: tuple[str, ...] = ()

    @classmethod
    def of(cls, plans: Sequence[Plan]) -> Self:
        """Return the facts that are known before the deploy."""
        entry = plans[0].entry
        return cls(
            release=entry.id,
            kind=entry.kind.value,
            tag=entry.tag,
            commit=entry.commit or "",
            service=entry.service,
            targets=tuple(plan.host.name for plan in plans),
            hosts=tuple(plan.host.address for plan in plans),
            performer=entry.deploy.who,
        )

    def with_result(self, result: DeployResult) -> Self:
        """Return the facts with the result of a deploy that ended."""
        facts = replace(self, skipped=result.skipped)
        for host in result.failed:
            if host.error is not None and not host.is_skipped:
                return facts.with_error(host.error, result.duration_s)
        outcome = DeployOutcome.DEPLOYED if result.changed else DeployOutcome.UNCHANGED
        if any(host.outcome is DeployOutcome.DETACHED for host in result.hosts):
            outcome = DeployOutcome.DETACHED
        return replace(facts, outcome=outcome.value, duration_s=result.duration_s)

    def with_error(self, error: KtrdrError, duration_s: float) -> Self:
        """Return the facts with the error that ended a deploy."""
        outcome = outcome_of(error).value
        return replace(self, outcome=outcome, duration_s=duration_s, reason=error.message)

    def environment(self) -> dict[str, str]:
        """Return the facts as environment variables."""
        duration = "" if self.duration_s is None else f"{self.duration_s:.1f}"
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
            "KTRDR_DURATION_S": duration,
            "KTRDR_REASON": self.reason,
            "KTRDR_SKIPPED": ", ".join(self.skipped),
        }


@dataclass(frozen=True, slots=True)
class HookResult:
    """Result of a hook.

    Attributes:
        hook: The hook.
        exit_code: Its exit code; None if it was ended because it took too long.
        duration_s: Its duration (s).
        last_line: Last line of its output, scrubbed.
    """

    hook: Hook
    exit_code: int | None
    duration_s: float
    last_line: str

    @property
    def is_good(self) -> bool:
        return self.exit_code == 0

    def __str__(self) -> str:
        name = f"the hook {DIRECTORY}/{self.hook}"
        if self.exit_code is None:
            return f"{name} timed out after {self.duration_s:.0f} s"
        output = f": {self.last_line}" if self.last_line else ""
        return f"{name} exited with code {self.exit_code}{output}"


@dataclass(frozen=True, slots=True)
class Hooks:
    """Hooks of a checkout.

    Attributes:
        root: The checkout, which is their working directory.
        settings: Their settings.
        environ: The operator's environment; hooks inherit a part of it.
        on_line: Receives each line of their output, scrubbed, with the hook.
        scrubber: Removes secrets from their output.
        secrets: All fields of the vault by name; hooks receive those that the settings name.
    """

    root: Path
    settings: HookSettings
    environ: Mapping[str, str]
    on_line: Callable[[Hook, str], None]
    scrubber: Scrubber = field(default_factory=Scrubber)
    secrets: Mapping[str, Secret] = field(default_factory=dict)

    def run_pre_deploy(self, facts: HookFacts) -> str:
        """Run ``pre-deploy``, if it exists; return what the history says of it.

        Raises:
            Conflict: It refuses the deploy, or took too long.
            ConfigurationError: It cannot be run.
        """
        result = self.run(Hook.PRE_DEPLOY, facts)
        if result and not result.is_good:
            raise Conflict(
                f"the deploy was refused: {result}",
                hint="Nothing was changed; fix what it reports, or remove the hook.",
            )
        return f"ran the hook {result.hook}" if result else ""

    def run_final(self, facts: HookFacts) -> list[str]:
        """Run the hooks for the end of a deploy; return a warning for each failure.

        Args:
            facts: Facts with the outcome.
        """
        is_good = facts.outcome in (DeployOutcome.DEPLOYED, DeployOutcome.UNCHANGED)
        warnings = []
        for hook in (Hook.POST_DEPLOY if is_good else Hook.ON_FAILURE, Hook.NOTIFY):
            try:
                result = self.run(hook, facts)
            except ConfigurationError as error:
                warnings.append(error.message)
            else:
                warnings += [str(result)] if result and not result.is_good else []
        return warnings

    def run(self, hook: Hook, facts: HookFacts) -> HookResult | None:
        """Run a hook to its end, or to its maximum duration; return None if it does not exist.

        Raises:
            ConfigurationError: The hook cannot be run.
        """
        file = self.root / DIRECTORY / hook.value
        if not os.path.lexists(file):
            return None
        began = time.monotonic()
        lines: list[str] = []

        def collect(_: object, line: str) -> None:
            lines.append(line)
            self.on_line(hook, line)

        process = self._start(hook, file, facts)
        try:
            code = self._read_output(
                process, OutputCollector("stdout", self.scrubber, on_line=collect)
            )
        finally:
            _end(process)
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return HookResult(hook, code, time.monotonic() - began, last)

    def environment(self, hook: Hook, facts: HookFacts) -> dict[str, str]:
        """Return the environment of a hook."""
        names = {*_INHERITED, *self.settings.environment}
        inherited = {
            name: text
            for name, text in self.environ.items()
            if name in names or name.startswith(_LOCALE_PREFIX)
        }
        secrets = {
            f"{SECRET_PREFIX}{name.upper()}": self.secrets[name].reveal()
            for name in self.settings.secrets
            if name in self.secrets
        }
        known = {"KTRDR_HOOK": hook.value, **facts.environment()}
        # No environment can contain a NUL character.
        clean = {name: text.replace("\0", "") for name, text in known.items()}
        return {**inherited, **secrets, **clean}

    def _start(self, hook: Hook, file: Path, facts: HookFacts) -> subprocess.Popen[bytes]:
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
                "`#!/bin/sh`, or another program's path, as its first line.",
            ) from exc

    def _read_output(self, process: subprocess.Popen[bytes], output: OutputCollector) -> int | None:
        """Read the output until the hook ends; return its exit code, or None at a timeout."""
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
    """End a hook that still runs, with all processes that it started."""
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
