"""The three jobs, each done by every contender in random order, again and again.

They take turns on the same hosts, so whatever else the machine does falls on all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from benchmarks.deploy.contenders import Contender, Job
from benchmarks.deploy.ground import Ground, LabGround
from benchmarks.deploy.kit import Kit
from benchmarks.samples import Goal, Outcome, Samples, ratio

_COLUMNS = ("", "n", "min s", "p50 s", "max s", "times plain", "connections", "commands")
_WAITS = (
    "plain: `up -d --wait` on all hosts at once, until Docker calls every container healthy; "
    "ktrdr goes on until the backend says its version and lists every worker with it"
)


def nothing_to_change(ground: Ground, rounds: int) -> Outcome:
    """All runs already. Plain ssh does `up -d` alone, and looks at nothing else."""
    lab = ground.lab
    for contender in lab.contenders:
        contender.run(lab.current, "up", lab.way)

    def once(contender: Contender) -> float:
        before = lab.containers()
        seconds = contender.run(lab.current, "up", lab.way)
        assert lab.containers() == before, f"{contender.name} restarted what it should not"
        return seconds

    taken = _taken(lab, once, rounds)
    outcome = _outcome("nothing to change, three hosts", lab, taken, lab.current, "up")
    outcome.goals = [Goal("no-op against plain `up -d`", 1.5, _against(taken, 1, 0), "times")]
    outcome.goals += [
        Goal(f"no-op against {rival.name}", 1, _against(taken, 1, number), "times")
        for number, rival in list(enumerate(lab.contenders))[2:]
    ]
    outcome.notes = [
        "plain: `docker compose up -d` and nothing else; the others bring the configuration, too",
        "everyone asks the vault once, and connects anew; Ansible's open connections are closed "
        "after each run",
    ]
    if lab.tag_can_move:
        outcome.notes.append(f"{lab.tag} is no commit's tag, so ktrdr asks the registry each time")
    return outcome


def another_image(ground: Ground, rounds: int) -> Outcome:
    """Our image under another tag, on all hosts: its last layer is pulled, 5 services recreated."""
    lab = ground.lab
    lab.publish_other()
    releases = [lab.current, lab.other]

    def once(contender: Contender) -> float:
        releases.reverse()
        lab.forget(releases[0])
        seconds = contender.run(releases[0], "deploy", lab.way)
        _check(lab, releases[0])
        return seconds

    taken = _taken(lab, once, rounds)
    outcome = _outcome("another image, three hosts", lab, taken)
    outcome.goals = [Goal("image change against plain", 1.15, _against(taken, 1, 0), "times")]
    outcome.notes = [
        "each time the images are pulled: two layers of 2 MB, as the rest is there",
        _WAITS,
    ]
    return outcome


def first_deploy(ground: Ground, rounds: int) -> Outcome:
    """Hosts with no container, volume or configuration; the images are there."""
    lab = ground.lab

    def once(contender: Contender) -> float:
        lab.wipe()
        seconds = contender.run(lab.current, "deploy", lab.way)
        _check(lab, lab.current)
        return seconds

    taken = _taken(lab, once, rounds)
    outcome = _outcome("first deploy, three hosts", lab, taken)
    outcome.goals = [Goal("first deploy against plain", 1.15, _against(taken, 1, 0), "times")]
    outcome.notes = ["the hosts are wiped each time, and keep their images", _WAITS]
    return outcome


def _taken(
    lab: LabGround, once: Callable[[Contender], float], rounds: int
) -> Mapping[int, Samples]:
    """The samples of each contender, by its place in the list."""
    order, dice = list(range(len(lab.contenders))), random.Random(1)
    taken: dict[int, list[float]] = {number: [] for number in order}
    for _ in range(rounds):
        dice.shuffle(order)
        for number in order:
            taken[number].append(once(lab.contenders[number]))
    return {number: Samples(seconds) for number, seconds in taken.items()}


def _against(taken: Mapping[int, Samples], one: int, other: int) -> float:
    return ratio(taken[one], taken[other])


def _outcome(
    title: str,
    lab: LabGround,
    taken: Mapping[int, Samples],
    counted: Kit | None = None,
    job: Job = "deploy",
) -> Outcome:
    """The table; where nothing changes, connections and commands are counted as well."""
    outcome = Outcome(title, _COLUMNS if counted else _COLUMNS[:-2])
    counts = _counts(lab, counted, job) if counted else [[]] * len(taken)
    for number, samples in taken.items():
        figures = (f"{samples.percentile(share) / 1000:.2f}" for share in (0, 0.5, 1))
        against = f"{_against(taken, number, 0):.2f}"
        cells = [str(len(samples.seconds)), *figures, against, *counts[number]]
        outcome.rows.append([lab.contenders[number].name, *cells])
    return outcome


def _counts(lab: LabGround, kit: Kit, job: Job) -> Sequence[list[str]]:
    found = []
    lab.servers.count()
    for contender in lab.contenders:
        contender.run(kit, job, lab.way)
        found.append([str(count) for count in lab.servers.count()])
    return found


def _check(lab: LabGround, kit: Kit) -> None:
    """What was to run does, and is healthy: no contender is quick because it did less."""
    for key, listed in lab.versions().items():
        lines = listed.splitlines()
        ours = [line for line in lines if "/ktrdr-" in line]
        wrong = [line for line in ours if f":{kit.tag} " not in line or "(healthy)" not in line]
        assert ours, f"{key} has none of our containers: {lines}"
        assert not wrong, f"{key} after {kit.tag}: {wrong}"
