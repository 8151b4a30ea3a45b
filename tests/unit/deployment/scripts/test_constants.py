"""Numbers and names that stand in scripts and in Python are the same."""

from __future__ import annotations

import re

from ktrdr.deployment import logs
from ktrdr.deployment.homelab.hosts import CONTAINER_UID
from ktrdr.deployment.hosts.lock import LOCK_BUSY, LOCK_LOST, NO_FLOCK, RECOVERY, RECOVERY_S
from tests.unit.deployment.shell import SCRIPTS


def found(pattern: str, *names: str) -> set[str]:
    """What a pattern finds in scripts, each of which it must be found in."""
    texts = [(SCRIPTS / name).read_text() for name in names]
    every = [re.findall(pattern, text, re.MULTILINE) for text in texts]
    assert all(every)
    return {each for several in every for each in several}


def test_the_exit_codes_about_locks() -> None:
    assert found(r"return (\d\d)", "acquire_lock.sh") == {str(LOCK_BUSY), str(NO_FLOCK)}
    assert found(r"exit (\d+)", "lib/lock.sh") == {str(LOCK_LOST)}


def test_how_long_a_recovery_may_take_and_what_its_note_says() -> None:
    assert found(r"flock -w (\d+) 9", "acquire_lock.sh") == {str(RECOVERY_S)}
    assert found(r'^ +recover "\$2" (\d+)$', "watchdog.sh") == {str(RECOVERY_S)}
    assert found(r"grep -qF '(.*?)'", "acquire_lock.sh") == {RECOVERY}


def test_a_follower_of_logs_ends_before_it_is_ended() -> None:
    (seconds,) = found(r"^FOLLOW_SECONDS=(\d+)$", "logs.sh")
    assert int(seconds) < logs._FOLLOW_TIMEOUT_S


def test_the_user_that_our_programs_run_as() -> None:
    files = ("../homelab/scripts/core_delivery.sh", "../homelab/scripts/worker_delivery.sh")
    assert found(r"encode_secrets (?:backend|worker) (\d+)", *files) == {str(CONTAINER_UID)}
