"""What a deploy does, decided before anything is done: pure, so that it can be shown and tested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from ktrdr.deployment.deploy.options import DEFAULT_HEALTH_TIMEOUT_S
from ktrdr.deployment.deploy.steps import Step, StepBuilder, StepKind, Wanted
from ktrdr.deployment.homelab import host_config as sites
from ktrdr.deployment.homelab.host_config import Site, unknown
from ktrdr.deployment.homelab.hosts import Place
from ktrdr.deployment.homelab.inventory import Inventory
from ktrdr.deployment.hosts.history import ALL, Entry, Kind
from ktrdr.deployment.hosts.lock import RECOVERY, Owner
from ktrdr.deployment.releases import compose_file as stacks
from ktrdr.deployment.releases.compose_file import Service, Stack
from ktrdr.deployment.releases.release import Release, Target, compose_file, env_file
from ktrdr.errors import UsageError


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one deploy from all others.

    Attributes:
        id: The release's id; hosts that are deployed to together have the same.
        who: The person and their machine.
        at: When it was asked for.
        owner: Who has the host's lock already, where this is a part of something else.
    """

    id: str
    who: str
    at: datetime
    owner: Owner | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What the operator asked for.

    Attributes:
        target: Which of the two stacks.
        node: The worker node, for workers.
        service: A service of the stack, or ``all``.
        profiles: Further Compose profiles.
        scale: Workers of each type; by default what the inventory says.
        skip_validation: Whether the host is not looked at before.
        health_timeout_s: How long the services may take to become healthy.
        kind: Whether something new is deployed, or something old again.
        again: The release that is to be put into place again, as it was recorded.
        of: The id of the release that this goes back from.
    """

    target: Target
    node: str = ""
    service: str = ALL
    profiles: tuple[str, ...] = ()
    scale: int | None = None
    skip_validation: bool = False
    health_timeout_s: float = DEFAULT_HEALTH_TIMEOUT_S
    kind: Kind = Kind.DEPLOY
    again: Entry | None = None
    of: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A deploy that has not happened yet.

    Attributes:
        site: Where to.
        request: What was asked for.
        release: What.
        entry: What is recorded of it.
        wanted: What is to run after it, as far as it is concerned with it.
        surplus: Services that are to be stopped where they run: those beyond the scale.
        steps: The remote scripts.
        health_timeout_s: How long the services may take to become healthy.
        minimum_free_mb: The free disk (MiB) that preflight asks for.
        builder: Makes the scripts whose content is not known before.
    """

    site: Site
    request: Request
    release: Release
    entry: Entry
    wanted: tuple[Wanted, ...]
    surplus: tuple[str, ...]
    steps: tuple[Step, ...]
    health_timeout_s: float
    minimum_free_mb: int
    builder: StepBuilder = field(repr=False, compare=False)

    @property
    def service(self) -> str:
        """The one service that is asked for, or ``all``."""
        return self.request.service

    @property
    def place(self) -> Place:
        """The host as all commands name it."""
        site = self.site
        return Place(site.target, site.node, site.host, site.workdir)

    @property
    def owner(self) -> Owner:
        """What the host's lock says while this goes on."""
        return _owner(self.entry)

    def step(self, kind: StepKind) -> Step | None:
        """The step of a kind, or None where it is left out."""
        return next((step for step in self.steps if step.kind is kind), None)


def make(inventory: Inventory, request: Request, release: Release, stamp: Stamp) -> Plan:
    """Plans a deploy.

    Raises:
        UsageError: There is no such node, service or profile; the message names the valid ones.
        ConfigurationError: The release has no such stack.
    """
    if request.target == "core":
        site = sites.core(inventory, release)
    else:
        site = sites.worker_node(inventory, request.node, release)
    if request.again:
        site = replace(site, settings=tuple(request.again.settings.items()))
    stack = release.stack(request.target)
    profiles = _profiles(request, site, stack)
    services = _concerned(stack, request.service, profiles)
    surplus = _surplus(stack, request, profiles)
    variables = {**release.settings(request.target), **dict(site.settings)}
    wanted = tuple(_wanted(service, site, inventory, variables) for service in services)
    needs = stack.dependencies_of(request.service) if request.service != ALL else ()
    needed = [service for service in stack.services if service.name in needs]
    overrides = (release.in_memory(request.target),) if site.in_memory else ()
    entry = _entry(request, release, site, profiles, stamp)
    builder = StepBuilder(
        site=site,
        release=release,
        compose_files=(compose_file(request.target), *overrides),
        env_file=env_file(request.target),
        profiles=profiles,
        service=None if request.service == ALL else request.service,
        entry=entry,
        note=(stamp.owner or _owner(entry)).note(),
        recovery_note=_recovery(entry).note(),
        wanted=wanted,
        pinned=_pinned(request, wanted),
        needed=tuple(_wanted(service, site, inventory, variables) for service in needed),
        surplus=surplus,
    )
    return Plan(
        site=site,
        request=request,
        release=release,
        entry=entry,
        wanted=wanted,
        surplus=surplus,
        steps=builder.all(validate=not request.skip_validation),
        health_timeout_s=request.health_timeout_s,
        minimum_free_mb=inventory.minimum_free_mb,
        builder=builder,
    )


def _entry(
    request: Request, release: Release, site: Site, profiles: tuple[str, ...], stamp: Stamp
) -> Entry:
    return Entry(
        id=stamp.id,
        kind=request.kind,
        service=request.service,
        tag=release.tag,
        commit=release.commit,
        configuration=release.configuration,
        who=stamp.who,
        began=stamp.at,
        profiles=profiles,
        settings=dict(site.settings),
        of=request.of,
    )


def _owner(entry: Entry) -> Owner:
    return Owner(entry.id, entry.who, f"{entry.kind} of {entry.tag}", entry.began)


def _recovery(entry: Entry) -> Owner:
    reason = f"{RECOVERY} a cut-off {entry.kind} of {entry.tag}"
    return Owner(f"{entry.id}-recovery", entry.who, reason, entry.began)


def _pinned(request: Request, wanted: Iterable[Wanted]) -> tuple[tuple[str, str], ...]:
    """The digests of the images that are wanted again, where they were recorded."""
    if request.again is None:
        return ()
    images = dict.fromkeys(service.image for service in wanted)
    digests = request.again.images
    return tuple((image, digests[image]) for image in images if digests.get(image))


def _profiles(request: Request, site: Site, stack: Stack) -> tuple[str, ...]:
    """Those asked for, and those that the scale means: scale-2 up to scale-N."""
    if request.again:
        return tuple(name for name in request.again.profiles if name in stack.profiles)
    for profile in request.profiles:
        if profile not in stack.profiles:
            raise unknown("profile", profile, stack.profiles)
    scale = request.scale or site.scale
    by_scale = (f"scale-{number}" for number in range(2, scale + 1))
    return tuple(dict.fromkeys([*by_scale, *request.profiles]))


def _concerned(stack: Stack, name: str, profiles: Iterable[str]) -> tuple[Service, ...]:
    running = stack.running_with(profiles)
    if name == ALL:
        return running
    if name not in stack.names:
        raise unknown("service", name, [*stack.names, ALL])
    service = next((service for service in running if service.name == name), None)
    if service is None:
        raise UsageError(
            f"the service {name} runs only with a profile that was not chosen",
            hint=f"Choose one with --profile; {name} has: {', '.join(stack.profiles)}.",
        )
    return (service,)


def _surplus(stack: Stack, request: Request, profiles: Iterable[str]) -> tuple[str, ...]:
    if request.target != "workers" or request.service != ALL:
        return ()
    kept = {service.name for service in stack.running_with(profiles)}
    return tuple(name for name in stack.names if name not in kept)


def _wanted(
    service: Service, site: Site, inventory: Inventory, variables: Mapping[str, str]
) -> Wanted:
    image = stacks.filled_in(service.image, variables)
    port = service.worker_port
    return Wanted(
        name=service.name,
        image=image,
        says_version=image == f"{inventory.image}:{variables['IMAGE_TAG']}",
        worker_url=f"http://{site.host}:{port}" if port else None,
    )
