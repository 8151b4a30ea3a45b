"""Comparisons of the contenders on three jobs.

The contenders take turns on the same hosts in random order, so that other load on the machine
affects all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from benchmarks.deploy.contenders import Contender
from benchmarks.deploy.environment import BenchmarkEnvironment, LabEnvironment
from benchmarks.deploy.inputs import DeployInputs
from benchmarks.samples import Goal, Outcome, Samples, ratio

_WAITS = (
    "plain: `up -d --wait` until Docker reports all containers healthy, on the core and then on "
    "both worker nodes; ktrdr uses the same order, and also waits until the backend reports its "
    "version and lists every worker with it; pyinfra and Ansible deploy all hosts in parallel"
)


def measure_no_op(env: BenchmarkEnvironment, rounds: int) -> Outcome:
    """Measure deploys without changes. Plain ssh only runs `up -d`."""
    lab, contenders = env.lab, env.lab.contenders
    for contender in contenders:
        contender.run(lab.current, "up", lab.access)

    def deploy(contender: Contender) -> float:
        before = lab.containers()
        seconds = contender.run(lab.current, "up", lab.access)
        assert lab.containers() == before, f"{contender.name} restarted unchanged services"
        return seconds

    samples = _measure(contenders, deploy, rounds)
    outcome = _outcome("no changes, three hosts", contenders, samples)
    _add_counts(outcome, contenders, lab)
    outcome.goals = [
        Goal("no-op against plain `up -d`", 1.5, ratio(samples[1], samples[0]), "times")
    ]
    outcome.goals += [
        Goal(f"no-op against {contenders[n].name}", 1, ratio(samples[1], samples[n]), "times")
        for n in range(2, len(contenders))
    ]
    outcome.notes = [
        "plain: only `docker compose up -d`; the others also transfer the configuration",
        "each contender reads the vault once and opens new connections; Ansible's connections are "
        "closed after each run",
    ]
    if lab.tag_can_move:
        outcome.notes.append(
            f"{lab.tag} is not the tag of a commit, so ktrdr queries the registry each time"
        )
    return outcome


def measure_image_change(env: BenchmarkEnvironment, rounds: int) -> Outcome:
    """Measure deploys of another tag: hosts pull its last layer and recreate services."""
    lab = env.lab
    lab.publish_other()
    releases = [lab.current, lab.other]

    def deploy(contender: Contender) -> float:
        releases.reverse()
        lab.remove_images(releases[0])
        seconds = contender.run(releases[0], "deploy", lab.access)
        _check_health(lab, releases[0])
        return seconds

    contenders = (*lab.contenders, lab.plain_at_once)
    samples = _measure(contenders, deploy, rounds)
    outcome = _outcome("another image, three hosts", contenders, samples)
    outcome.goals = [
        Goal("image change against plain", 1.15, ratio(samples[1], samples[0]), "times")
    ]
    outcome.notes = [
        "each run pulls the images: two layers of 2 MB; the other layers are present",
        _WAITS,
    ]
    return outcome


def measure_first_deploy(env: BenchmarkEnvironment, rounds: int) -> Outcome:
    """Measure deploys to hosts without containers, volumes and configuration, but with images."""
    lab = env.lab

    def deploy(contender: Contender) -> float:
        lab.wipe()
        seconds = contender.run(lab.current, "first", lab.access)
        _check_health(lab, lab.current)
        return seconds

    contenders = (*lab.contenders, lab.plain_at_once)
    samples = _measure(contenders, deploy, rounds)
    outcome = _outcome("first deploy, three hosts", contenders, samples)
    outcome.goals = [
        Goal("first deploy against plain", 1.15, ratio(samples[1], samples[0]), "times")
    ]
    outcome.notes = [
        "the hosts are wiped before each run, but keep their images",
        "each contender starts the database first and sets the vault's password for its role",
        _WAITS,
    ]
    return outcome


def _measure(
    contenders: Sequence[Contender], deploy: Callable[[Contender], float], rounds: int
) -> Sequence[Samples]:
    """Return the samples of each contender, in the order of the contenders."""
    order, dice = list(range(len(contenders))), random.Random(1)
    durations: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        dice.shuffle(order)
        for number in order:
            durations[number].append(deploy(contenders[number]))
    return [Samples(seconds) for seconds in durations]


def _outcome(title: str, contenders: Sequence[Contender], samples: Sequence[Samples]) -> Outcome:
    outcome = Outcome(title, ("", "n", "min s", "p50 s", "max s", "times plain"))
    for contender, own in zip(contenders, samples, strict=True):
        figures = (f"{own.percentile(share) / 1000:.2f}" for share in (0, 0.5, 1))
        times = f"{ratio(own, samples[0]):.2f}"
        outcome.rows.append([contender.name, str(len(own.seconds)), *figures, times])
    return outcome


def _add_counts(outcome: Outcome, contenders: Sequence[Contender], lab: LabEnvironment) -> None:
    """Deploy once more, and add the numbers of connections and commands of each contender."""
    outcome.columns = (*outcome.columns, "connections", "commands")
    lab.servers.count()
    for contender, row in zip(contenders, outcome.rows, strict=True):
        contender.run(lab.current, "up", lab.access)
        count = lab.servers.count()
        row += [str(count.connections), str(count.commands)]


def _check_health(lab: LabEnvironment, inputs: DeployInputs) -> None:
    """Verify that the release runs and is healthy: no contender may be fast by doing less."""
    for key, containers in lab.versions().items():
        lines = [line for line in containers.splitlines() if "/ktrdr-" in line]
        assert lines, f"{key} has no container of KTRDR: {containers}"
        wrong = [line for line in lines if f":{inputs.tag} " not in line or "(healthy)" not in line]
        assert not wrong, f"{key} after {inputs.tag}: {wrong}"
