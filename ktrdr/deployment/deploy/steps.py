"""The remote scripts of a deploy to one host.

There are six, and nothing changes before the fourth:

1. lock: keep everybody else out, for as long as all the others take;
2. check: look at the host, and report all that is wrong with it at once;
3. fetch: bring the configuration beside the old one, pull images, compare with what runs;
4. apply: put the configuration into place and let Compose bring about the difference;
5. verify: look, again and again, until all is well or certainly not;
6. record: write down what has come of it; then the lock is given back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ktrdr.deployment.hosts.health import ExpectedService
from ktrdr.deployment.hosts.history import HistoryEntry
from ktrdr.deployment.hosts.host import HostConfig
from ktrdr.deployment.product import Product, SecretSteps
from ktrdr.deployment.releases.registry import REGISTRY_LOGIN
from ktrdr.deployment.releases.release import Release
from ktrdr.deployment.scripts import delivery, docker, history, host, lock, recovery
from ktrdr.deployment.scripts import release as files
from ktrdr.deployment.scripts.compose import Compose
from ktrdr.deployment.scripts.script import Script
from ktrdr.deployment.scripts.sections import section

_CHECK_TIMEOUT_S: Final = 30.0
# A first pull brings gigabytes over a home connection.
_FETCH_TIMEOUT_S: Final = 1800.0
# Stopping has its grace periods (60 s for the database), starting waits for dependencies.
_APPLY_TIMEOUT_S: Final = 600.0
_VERIFY_TIMEOUT_S: Final = 60.0
RECORD_TIMEOUT_S: Final = 30.0
# A container that was told to stop does so within its grace period (60 s for the database).
UNDO_TIMEOUT_S: Final = 90.0
# So many events are read: more releases than anybody goes back, and no file that only grows.
_REMEMBERED: Final = 200


# How a deploy ends is not known before it has; this stands for it where a plan is shown.
_SOME_OUTCOME: Final = '{"event":"ended", …}'


class StepKind(StrEnum):
    """The steps of a deploy, in their order."""

    LOCK = "lock"
    CHECK = "check"
    FETCH = "fetch"
    APPLY = "apply"
    VERIFY = "verify"
    RECORD = "record"


@dataclass(frozen=True, slots=True)
class Step:
    """One remote script.

    Attributes:
        kind: Which it is; the meaning of its output and of its failure follows from that.
        host: Where it runs.
        title: What it does, for people.
        script: The script; it names the secrets it needs.
        timeout_s: After so long it is ended.
        undo: What takes back what it did, if the deploy ends before a later step has used it.
    """

    kind: StepKind
    host: str
    title: str
    script: Script
    timeout_s: float
    undo: Script | None = None


@dataclass(frozen=True, slots=True)
class StepBuilder:
    """Builds the steps of one deploy.

    Attributes:
        config: Where to.
        release: What.
        project: Its Compose project, with the files in their host.
        service: The only service that is asked for, or None for all.
        entry: What is recorded of it.
        lock_note: What the lock says of its owner.
        recovery_note: What it says of what goes on when this was cut off.
        expected: What is to run.
        pinned: The digests of images whose tags may have moved since, by name and tag.
        dependencies: What the only service depends on.
        surplus: What is to be stopped.
    """

    product: Product
    config: HostConfig
    release: Release
    project: Compose
    service: str | None
    entry: HistoryEntry
    lock_note: str
    recovery_note: str
    expected: tuple[ExpectedService, ...]
    pinned: tuple[tuple[str, str], ...] = ()
    dependencies: tuple[ExpectedService, ...] = ()
    surplus: tuple[str, ...] = ()

    def all(self, *, validate: bool) -> tuple[Step, ...]:
        """The steps in their order; without validation, the host is not checked."""
        checks = (self._check(),) if validate else ()
        return (
            self._lock(),
            *checks,
            self._fetch(),
            self._apply(),
            self._verify(),
            self.record(_SOME_OUTCOME),
        )

    def record(self, *lines: str, good: bool = True) -> Step:
        """Writes events down, and keeps the configuration if it is good."""
        workdir = self.config.host.workdir
        body = [history.append(workdir, *lines)]
        if good:
            files_here = self.release.files
            body.append(history.keep(workdir, files_here, self.entry.configuration))
        script = Script("\n".join(body))
        return self._step(StepKind.RECORD, "record", script, RECORD_TIMEOUT_S)

    def _lock(self) -> Step:
        script = Script(lock.hold(self.config.host.workdir, self.lock_note, wait_s=0))
        return self._step(StepKind.LOCK, "lock", script, _CHECK_TIMEOUT_S)

    def _check(self) -> Step:
        config = self.config
        body = host.facts(
            config.host.workdir, config.shared_directory, shared_is_mounted=config.is_share_mounted
        )
        if config.secrets_in_memory:
            body += f"\n{delivery.memory()}"
        return self._step(StepKind.CHECK, "check the host", Script(body), _CHECK_TIMEOUT_S)

    def _fetch(self) -> Step:
        workdir = self.config.host.workdir
        body = [
            section("stage"),
            files.stage(workdir, self.release.files),
            section("pull"),
            *(docker.pin(self.config.host.project, *pin) for pin in self.pinned),
            *self._pulls(),
            *self.secret_steps.fetch_steps(),
            section("hashes"),
            self._staged().hashes(),
            section("images"),
            docker.images_noted(sorted({service.image for service in self.expected})),
            section("files"),
            files.report_and_keep(workdir, self.release.files, self.config.managed_directory),
            section("history"),
            history.read(workdir, last=_REMEMBERED),
            # The others' health checks, which Docker makes anyway, have printed what they say.
            *self._look(),
            *self._answers_of_surplus(),
        ]
        script = Script(
            "\n".join(body),
            self.config.settings,
            (*self.config.secrets, REGISTRY_LOGIN),
            files.archive(self.release.files),
        )
        undo = Script(files.discard(workdir))
        title = "fetch the release"
        return self._step(StepKind.FETCH, title, script, _FETCH_TIMEOUT_S, undo=undo)

    def _apply(self) -> Step:
        needs = [service.name for service in self.dependencies]
        up = self.project.up(self.service, dependencies=needs)
        project, workdir = self.config.host.project, self.config.host.workdir
        secrets = (*self.config.secrets, *self.config.apply_secrets)
        body = [
            lock.require(workdir, self.lock_note),
            history.append(workdir, self.entry.begun_event()),
            recovery.when_ended(workdir, project, self.recovery_note, secrets=secrets),
            files.place(workdir, self.release.files, self.config.managed_directory),
            recovery.finish_recreation(project),
            recovery.remove_unstartable(project, [*(s.name for s in self.expected), *needs]),
            *self.secret_steps.before_up(),
            up,
            *self.secret_steps.after_up(),
        ]
        if self.surplus:
            body.append(self.project.remove(self.surplus))
        script = Script("\n".join(body), self.config.settings, secrets)
        undo = Script(f"{recovery.defined(workdir, project)}\nrecover {UNDO_TIMEOUT_S - 5:.0f}")
        return self._step(StepKind.APPLY, "apply", script, _APPLY_TIMEOUT_S, undo=undo)

    def _verify(self) -> Step:
        body = [
            *self._look(),
            section("answers"),
            docker.answers(self.config.host.project, self._ours()),
        ]
        script = Script("\n".join(body))
        return self._step(StepKind.VERIFY, "wait until healthy", script, _VERIFY_TIMEOUT_S)

    def _look(self) -> list[str]:
        """What the health gate judges by, beside what the services say."""
        project = self.config.host.project
        return [section("clock"), host.clock(), section("containers"), docker.containers(project)]

    def _answers_of_surplus(self) -> list[str]:
        """What is lost with those that are to be stopped, if any of them is there."""
        if not self.surplus:
            return []
        asking = docker.answers(self.config.host.project, self.surplus)
        return [section("answers"), docker.where_there(self.surplus, asking)]

    def _ours(self) -> list[str]:
        return [service.name for service in self.expected if service.reports_version]

    def _pulls(self) -> list[str]:
        """A tag that never moves is pulled where it is missing; any other, every time.

        One that is pinned to what it meant before is not pulled: that would be what it means now.
        """
        tag = f":{self.release.tag}"
        concerned = (*self.expected, *self.dependencies)
        pinned = dict(self.pinned)
        moving = [
            service
            for service in concerned
            if service.image.endswith(tag)
            and not self.release.is_immutable
            and service.image not in pinned
        ]
        resting = [service for service in concerned if service not in moving]
        staged = self._staged()
        pulls = []
        if moving:
            pulls.append(staged.pull((service.name for service in moving), policy="always"))
        if resting:
            names = () if self.service is None and not moving else (s.name for s in resting)
            images = sorted({service.image for service in concerned})
            pull = staged.pull(names, policy="missing")
            pulls.append(docker.unless_images_are_there(images, pull))
        return pulls

    @property
    def secret_steps(self) -> SecretSteps:
        """The secrets' part of it."""
        names = tuple(service.name for service in self.expected)
        ours = [service.image for service in self.expected if service.reports_version]
        image = (ours or [service.image for service in self.expected])[0]
        return self.product.secret_steps(
            self.config, self.project, names, whole=self.service is None, image=image
        )

    def _staged(self) -> Compose:
        return self.project.at(files.STAGED)

    def _step(
        self,
        kind: StepKind,
        title: str,
        script: Script,
        timeout_s: float,
        undo: Script | None = None,
    ) -> Step:
        return Step(kind, self.config.host.address, title, script, timeout_s, undo)
