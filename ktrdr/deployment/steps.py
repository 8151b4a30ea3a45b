"""The remote scripts of a deploy to one host.

There are four, and nothing changes before the third:

1. check: look at the host, and report all that is wrong with it at once;
2. fetch: bring the configuration beside the old one, pull images, compare with what runs;
3. apply: put the configuration into place and let Compose bring about the difference;
4. verify: look, again and again, until all is well or certainly not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from ktrdr.deployment.commands import compose, delivery, docker, host
from ktrdr.deployment.commands import release as files
from ktrdr.deployment.commands.compose import Compose
from ktrdr.deployment.commands.script import Script
from ktrdr.deployment.commands.sections import section
from ktrdr.deployment.handover import Handover
from ktrdr.deployment.release import MONITORING, Release
from ktrdr.deployment.site import REGISTRY_LOGIN, Site

_CHECK_TIMEOUT_S: Final = 30.0
# A first pull brings gigabytes over a home connection.
_FETCH_TIMEOUT_S: Final = 1800.0
# Stopping has its grace periods (60 s for the database), starting waits for dependencies.
_APPLY_TIMEOUT_S: Final = 600.0
_VERIFY_TIMEOUT_S: Final = 60.0


class StepKind(StrEnum):
    """The steps of a deploy, in their order."""

    CHECK = "check"
    FETCH = "fetch"
    APPLY = "apply"
    VERIFY = "verify"


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
class Wanted:
    """A service that is to run.

    Attributes:
        name: Its name.
        image: Its image with its tag.
        says_version: Whether it is one of our own programs, which say what version they are.
        worker_url: What it registers at the backend, if it is a worker.
    """

    name: str
    image: str
    says_version: bool
    worker_url: str | None


@dataclass(frozen=True, slots=True)
class StepBuilder:
    """Builds the steps of one deploy.

    Attributes:
        site: Where to.
        release: What.
        project: Its Compose project, with the files in their place.
        service: The only service that is asked for, or None for all.
        wanted: What is to run.
        needed: What the only service depends on.
        surplus: What is to be stopped.
    """

    site: Site
    release: Release
    project: Compose
    service: str | None
    wanted: tuple[Wanted, ...]
    needed: tuple[Wanted, ...] = ()
    surplus: tuple[str, ...] = ()

    def all(self, *, validate: bool) -> tuple[Step, ...]:
        """The steps in their order; without validation, the first is left out."""
        steps = [self._fetch(), self._apply(), self._verify()]
        return (self._check(), *steps) if validate else tuple(steps)

    def _check(self) -> Step:
        site = self.site
        body = host.facts(
            site.workdir, site.shared_directory, shared_is_mounted=site.shared_is_mounted
        )
        if site.in_memory:
            body += f"\n{delivery.memory()}"
        return self._step(StepKind.CHECK, "check the host", Script(body), _CHECK_TIMEOUT_S)

    def _fetch(self) -> Step:
        workdir = self.site.workdir
        body = [
            section("stage"),
            files.stage(workdir),
            section("pull"),
            *self._pulls(),
            *self._handover.looks(),
            section("hashes"),
            self._staged().hashes(),
            section("images"),
            docker.images(sorted({service.image for service in self.wanted})),
            section("files"),
            files.report_and_keep(workdir, self.release.files, self._swept()),
            section("containers"),
            docker.containers(self.site.project),
        ]
        if self.surplus:
            body += [section("answers"), docker.answers(self.site.project, self.surplus)]
        script = Script(
            "\n".join(body),
            self.site.settings,
            (*self.site.secrets, REGISTRY_LOGIN),
            files.archive(self.release.files),
        )
        undo = Script(files.discard(workdir))
        title = "fetch configuration and images"
        return self._step(StepKind.FETCH, title, script, _FETCH_TIMEOUT_S, undo=undo)

    def _apply(self) -> Step:
        needs = [service.name for service in self.needed]
        up = self.project.up(self.service, dependencies=needs)
        finish = docker.finish_recreation(self.site.project)
        body = [
            files.place(self.site.workdir, self.release.files, self._swept()),
            finish,
            *self._handover.before_up(),
            up,
            *self._handover.after_up(),
        ]
        if self.surplus:
            body.append(self.project.remove(self.surplus))
        secrets = (*self.site.secrets, *self.site.derived)
        script = Script("\n".join(body), self.site.settings, secrets)
        return self._step(StepKind.APPLY, "apply", script, _APPLY_TIMEOUT_S, undo=Script(finish))

    def _verify(self) -> Step:
        project = self.site.project
        body = [section("clock"), host.clock(), section("containers"), docker.containers(project)]
        ours = [service.name for service in self.wanted if service.says_version]
        if ours:
            body += [section("answers"), docker.answers(project, ours)]
        title = "wait until all is well"
        return self._step(StepKind.VERIFY, title, Script("\n".join(body)), _VERIFY_TIMEOUT_S)

    def _pulls(self) -> list[str]:
        """A tag that never moves is pulled where it is missing; any other, every time."""
        tag = f":{self.release.tag}"
        concerned = (*self.wanted, *self.needed)
        moving = [
            service
            for service in concerned
            if service.image.endswith(tag) and not self.release.is_immutable
        ]
        resting = [service for service in concerned if service not in moving]
        staged = self._staged()
        pulls = []
        if moving:
            pulls.append(staged.pull((service.name for service in moving), policy="always"))
        if resting:
            names = () if self.service is None and not moving else (s.name for s in resting)
            images = sorted({service.image for service in resting})
            pull = staged.pull(names, policy="missing")
            pulls.append(compose.unless_images_are_there(images, pull))
        return pulls

    @property
    def _handover(self) -> Handover:
        names = tuple(service.name for service in self.wanted)
        ours = [service.image for service in self.wanted if service.says_version]
        image = (ours or [service.image for service in self.wanted])[0]
        return Handover(self.site, self.project, names, self.service is None, image)

    def _staged(self) -> Compose:
        return self.project.at(files.staging(self.site.workdir))

    def _swept(self) -> str:
        """Where files that are no part of the release are removed."""
        return MONITORING if self.site.target == "core" else ""

    def _step(
        self,
        kind: StepKind,
        title: str,
        script: Script,
        timeout_s: float,
        undo: Script | None = None,
    ) -> Step:
        return Step(kind, self.site.host, title, script, timeout_s, undo)
