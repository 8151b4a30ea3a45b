"""What a deploy does, decided before anything is done: pure, so that it can be shown and tested."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ktrdr.deployment import site as sites
from ktrdr.deployment import stack as stacks
from ktrdr.deployment.commands.compose import Compose
from ktrdr.deployment.inventory import Inventory
from ktrdr.deployment.release import Release, Target, compose_file, env_file
from ktrdr.deployment.site import Site, unknown
from ktrdr.deployment.stack import Service, Stack
from ktrdr.deployment.steps import Step, StepBuilder, StepKind, Wanted
from ktrdr.errors import UsageError

ALL: Final = "all"
DEFAULT_HEALTH_TIMEOUT_S: Final = 120


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
    """

    target: Target
    node: str = ""
    service: str = ALL
    profiles: tuple[str, ...] = ()
    scale: int | None = None
    skip_validation: bool = False
    health_timeout_s: float = DEFAULT_HEALTH_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class Plan:
    """A deploy that has not happened yet.

    Attributes:
        site: Where to.
        service: The one service that is asked for, or ``all``.
        release: What.
        wanted: What is to run after it, as far as it is concerned with it.
        surplus: Services that are to be stopped where they run: those beyond the scale.
        steps: The remote scripts.
        health_timeout_s: How long the services may take to become healthy.
        minimum_free_mb: The free disk (MiB) that preflight asks for.
    """

    site: Site
    service: str
    release: Release
    wanted: tuple[Wanted, ...]
    surplus: tuple[str, ...]
    steps: tuple[Step, ...]
    health_timeout_s: float
    minimum_free_mb: int

    def step(self, kind: StepKind) -> Step | None:
        """The step of a kind, or None where it is left out."""
        return next((step for step in self.steps if step.kind is kind), None)


def make(inventory: Inventory, request: Request, release: Release) -> Plan:
    """Plans a deploy.

    Raises:
        UsageError: There is no such node, service or profile; the message names the valid ones.
        ConfigurationError: The release has no such stack.
    """
    if request.target == "core":
        site = sites.core(inventory, release)
    else:
        site = sites.worker_node(inventory, request.node, release)
    stack = release.stack(request.target)
    profiles = _profiles(request, site, stack)
    services = _concerned(stack, request.service, profiles)
    surplus = _surplus(stack, request, profiles)
    variables = {**release.settings(request.target), **dict(site.settings)}
    wanted = tuple(_wanted(service, site, inventory, variables) for service in services)
    needs = stack.dependencies_of(request.service) if request.service != ALL else ()
    needed = [service for service in stack.services if service.name in needs]
    project = Compose(
        project=site.project,
        directory=site.workdir,
        files=site.workdir,
        file=compose_file(request.target),
        env_file=env_file(request.target),
        profiles=profiles,
        overrides=(release.in_memory(request.target),) if site.in_memory else (),
    )
    builder = StepBuilder(
        site=site,
        release=release,
        project=project,
        service=None if request.service == ALL else request.service,
        wanted=wanted,
        needed=tuple(_wanted(service, site, inventory, variables) for service in needed),
        surplus=surplus,
    )
    return Plan(
        site=site,
        service=request.service,
        release=release,
        wanted=wanted,
        surplus=surplus,
        steps=builder.all(validate=not request.skip_validation),
        health_timeout_s=request.health_timeout_s,
        minimum_free_mb=inventory.minimum_free_mb,
    )


def _profiles(request: Request, site: Site, stack: Stack) -> tuple[str, ...]:
    """Those asked for, and those that the scale means: scale-2 up to scale-N."""
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
