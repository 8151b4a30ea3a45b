"""The three jobs, each done by every contender in random order, again and again.

They take turns on the same hosts, so whatever else the machine does falls on all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from benchmarks.deploy.contenders import Contender
from benchmarks.deploy.ground import Ground, LabGround
from benchmarks.deploy.kit import Kit
from benchmarks.samples import Goal, Outcome, Samples, ratio

_WAITS = (
    "plain: `up -d --wait`, until Docker calls all containers healthy, on the core and then on "
    "both worker nodes; ktrdr takes the same order, and goes on until the backend says its version "
    "and lists every worker with it; pyinfra and Ansible take all hosts at once"
)


def nothing_to_change(ground: Ground, rounds: int) -> Outcome:
    """All runs already. Plain ssh does `up -d` alone, and looks at nothing else."""
    lab, who = ground.lab, ground.lab.contenders
    for contender in who:
        contender.run(lab.current, "up", lab.way)

    def once(contender: Contender) -> float:
        before = lab.containers()
        seconds = contender.run(lab.current, "up", lab.way)
        assert lab.containers() == before, f"{contender.name} restarted what it should not"
        return seconds

    taken = _taken(who, once, rounds)
    outcome = _outcome("nothing to change, three hosts", who, taken)
    _count(outcome, who, lab)
    outcome.goals = [Goal("no-op against plain `up -d`", 1.5, _against(taken, 1, 0), "times")]
    outcome.goals += [
        Goal(f"no-op against {rival.name}", 1, _against(taken, 1, number), "times")
        for number, rival in list(enumerate(who))[2:]
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

    who = (*lab.contenders, lab.hasty)
    taken = _taken(who, once, rounds)
    outcome = _outcome("another image, three hosts", who, taken)
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
        seconds = contender.run(lab.current, "first", lab.way)
        _check(lab, lab.current)
        return seconds

    who = (*lab.contenders, lab.hasty)
    taken = _taken(who, once, rounds)
    outcome = _outcome("first deploy, three hosts", who, taken)
    outcome.goals = [Goal("first deploy against plain", 1.15, _against(taken, 1, 0), "times")]
    outcome.notes = [
        "the hosts are wiped each time, and keep their images",
        "everyone starts the database first and gives its role the vault's password",
        _WAITS,
    ]
    return outcome


def _taken(
    who: Sequence[Contender], once: Callable[[Contender], float], rounds: int
) -> Sequence[Samples]:
    """The samples of each contender, in their order."""
    order, dice = list(range(len(who))), random.Random(1)
    taken: list[list[float]] = [[] for _ in who]
    for _ in range(rounds):
        dice.shuffle(order)
        for number in order:
            taken[number].append(once(who[number]))
    return [Samples(seconds) for seconds in taken]


def _against(taken: Sequence[Samples], one: int, other: int) -> float:
    return ratio(taken[one], taken[other])


def _outcome(title: str, who: Sequence[Contender], taken: Sequence[Samples]) -> Outcome:
    outcome = Outcome(title, ("", "n", "min s", "p50 s", "max s", "times plain"))
    for contender, samples in zip(who, taken, strict=True):
        figures = (f"{samples.percentile(share) / 1000:.2f}" for share in (0, 0.5, 1))
        against = f"{ratio(samples, taken[0]):.2f}"
        outcome.rows.append([contender.name, str(len(samples.seconds)), *figures, against])
    return outcome


def _count(outcome: Outcome, who: Sequence[Contender], lab: LabGround) -> None:
    """Does the job once more, and adds what each contender asked of the hosts."""
    outcome.columns = (*outcome.columns, "connections", "commands")
    lab.servers.count()
    for contender, row in zip(who, outcome.rows, strict=True):
        contender.run(lab.current, "up", lab.way)
        count = lab.servers.count()
        row += [str(count.connections), str(count.commands)]


def _check(lab: LabGround, kit: Kit) -> None:
    """What was to run does, and is healthy: no contender is quick because it did less."""
    for key, listed in lab.versions().items():
        lines = listed.splitlines()
        ours = [line for line in lines if "/ktrdr-" in line]
        wrong = [line for line in ours if f":{kit.tag} " not in line or "(healthy)" not in line]
        assert ours, f"{key} has none of our containers: {lines}"
        assert not wrong, f"{key} after {kit.tag}: {wrong}"
