"""Many who ask the same at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from ktrdr.deployment.deploy.single_flight import Shared
from ktrdr.errors import HostUnreachable
from tests.integration.sshd import wait_until


class Question:
    """One that is answered when the test says so."""

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = threading.Semaphore(0)

    def __call__(self) -> int:
        self.asked += 1
        number = self.asked
        assert self.may_answer.acquire(timeout=10)
        if number == 3:
            raise HostUnreachable("the third is lost")
        return number


def waiting(shared: Shared[int], callers: int, pool: ThreadPoolExecutor) -> list[Future[int]]:
    """So many callers, all of whom wait by now."""
    entered = threading.Semaphore(0)

    def call() -> int:
        entered.release()
        return shared()

    called = [pool.submit(call) for _ in range(callers)]
    for _ in called:
        assert entered.acquire(timeout=10)
    return called


def test_those_who_come_while_it_is_asked_share_the_next_answer() -> None:
    question = Question()
    shared = Shared(question)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(shared)
        wait_until(lambda: question.asked == 1, "the first asks")
        others = waiting(shared, 10, pool)
        # The first answer was asked for before they came: it is none for them.
        question.may_answer.release()
        assert first.result(10) == 1
        wait_until(lambda: question.asked == 2, "the others ask")
        for _ in range(10):
            question.may_answer.release()
        answers = [each.result(10) for each in others]
    assert set(answers) >= {2}
    assert 1 not in answers


def test_one_who_comes_later_gets_an_answer_of_their_own() -> None:
    question = Question()
    shared = Shared(question)
    question.may_answer.release(2)
    assert (shared(), shared()) == (1, 2)


def test_what_asking_raises_is_raised_in_all_who_share_it() -> None:
    question = Question()
    question.asked = 1
    shared = Shared(question)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(shared)
        wait_until(lambda: question.asked == 2, "the first asks")
        second = pool.submit(shared)
        question.may_answer.release(2)
        assert first.result(10) == 2
        with pytest.raises(HostUnreachable, match="the third is lost"):
            second.result(10)
    question.may_answer.release()
    assert shared() == 4, "the next ask anew"
