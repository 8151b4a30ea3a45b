"""Constants that are defined both in scripts and in Python."""

from __future__ import annotations

import re

from ktrdr.deployment import logs
from ktrdr.deployment.deploy.host_deployment import _DECIDED
from ktrdr.deployment.homelab.hosts import CONTAINER_UID
from ktrdr.deployment.hosts.lock import LOCK_BUSY, LOCK_LOST, NO_FLOCK, RECOVERY, RECOVERY_S
from ktrdr.operations.shared_directory import MARK
from tests.unit.deployment.shell import SCRIPTS


def found(pattern: str, *names: str) -> set[str]:
    """Return the matches of a pattern in scripts, of which each must have one."""
    texts = [(SCRIPTS / name).read_text() for name in names]
    every = [re.findall(pattern, text, re.MULTILINE) for text in texts]
    assert all(every)
    return {each for several in every for each in several}


def test_the_exit_codes_of_locks_are_the_same() -> None:
    assert found(r"return (\d\d)", "acquire_lock.sh") == {str(LOCK_BUSY), str(NO_FLOCK)}
    assert found(r"exit (\d+)", "lib/lock.sh") == {str(LOCK_LOST)}


def test_the_exit_code_of_a_late_confirmation_is_the_same() -> None:
    assert found(r"exit (\d+)", "record.sh") == {str(_DECIDED)}


def test_the_duration_and_the_note_of_a_recovery_are_the_same() -> None:
    assert found(r"flock -w (\d+) 9", "acquire_lock.sh") == {str(RECOVERY_S)}
    (seconds,) = found(r'^ +recover "\$2" (\d+)$', "watchdog.sh")
    assert int(seconds) < RECOVERY_S
    assert found(r"grep -qF '(.*?)'", "acquire_lock.sh") == {RECOVERY}


def test_a_follower_of_logs_ends_before_its_timeout() -> None:
    (seconds,) = found(r"^FOLLOW_SECONDS=(\d+)$", "logs.sh")
    assert int(seconds) < logs._FOLLOW_TIMEOUT_S


def test_the_mark_of_the_shared_directory_is_the_same() -> None:
    assert found(r'-e "\$shared/(.*?)"', "check.sh") == {MARK}


def test_the_user_of_our_programs_is_the_same() -> None:
    files = ("../homelab/scripts/core_delivery.sh", "../homelab/scripts/worker_delivery.sh")
    assert found(r"encode_secrets (?:backend|worker) (\d+)", *files) == {str(CONTAINER_UID)}
