"""What counts as drift, and what does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from ktrdr.deployment.hosts.history import Entry, Outcome
from ktrdr.deployment.status import drift
from tests.unit.deployment.day import BACKEND_IMAGE, NOW, TAG, container, entry

IMAGE = f"{BACKEND_IMAGE}:{TAG}"
BACKEND = container("backend")
RELEASE = entry(images={IMAGE: "sha256:1"})
DIGESTS = {BACKEND.image_id: "sha256:1"}


def found(*entries: Entry, containers=(BACKEND,), digests=DIGESTS, files=()) -> tuple[str, ...]:
    return drift.of(entries, containers, digests, files)


def test_what_runs_as_it_was_released_has_not_drifted() -> None:
    assert found(RELEASE) == ()


def test_where_nothing_is_recorded_nothing_has_drifted() -> None:
    assert found() == ()


def test_an_image_of_another_name_is_drift() -> None:
    other = replace(BACKEND, image=f"{BACKEND_IMAGE}:sha-0000000")
    (said,) = found(RELEASE, containers=[other])
    assert said == "backend runs ktrdr-backend:sha-0000000, which is not in release r1"


def test_another_image_by_the_same_name_is_drift() -> None:
    (said,) = found(RELEASE, digests={BACKEND.image_id: "sha256:2"})
    assert said.startswith("backend runs another image by the name ktrdr-backend:sha-abc1234")


def test_an_image_without_a_digest_is_taken_by_its_name() -> None:
    assert found(RELEASE, digests={}) == ()


def test_the_last_release_of_a_single_service_counts_for_that_service() -> None:
    new = f"{BACKEND_IMAGE}:sha-9999999"
    single = entry(2, "sha-9999999", service="backend", images={new: "sha256:9"})
    assert found(RELEASE, single)
    moved_on = replace(BACKEND, image=new)
    assert found(RELEASE, single, containers=[moved_on], digests={}) == ()


def test_a_container_made_after_the_last_release_was_made_by_hand() -> None:
    later = RELEASE.began + timedelta(seconds=3700 + 61)
    (said,) = found(RELEASE, containers=[replace(BACKEND, created_at=later)])
    assert said == "backend was made anew by hand, after release r1"
    soon = later - timedelta(seconds=2)
    assert found(RELEASE, containers=[replace(BACKEND, created_at=soon)]) == ()


def test_a_container_that_the_last_release_did_not_leave_was_made_by_hand_however_soon() -> None:
    left = replace(RELEASE, containers={"backend": BACKEND.short_id})
    soon = RELEASE.began + timedelta(seconds=3701)
    other = replace(BACKEND, id="another", created_at=soon)
    (said,) = found(left, containers=[other])
    assert said == "backend was made anew by hand, after release r1"
    more = replace(container("worker", f"{BACKEND_IMAGE}:{TAG}"), created_at=soon)
    assert found(left, containers=[BACKEND, more]) == (
        "worker was made anew by hand, after release r1",
    )


def test_a_container_that_the_last_release_left_was_not_made_by_hand_whatever_the_clocks() -> None:
    left = replace(RELEASE, containers={"backend": BACKEND.short_id})
    assert found(left, containers=[replace(BACKEND, created_at=NOW + timedelta(days=1))]) == ()


def test_a_release_that_was_cut_off_may_have_made_any_container() -> None:
    cut = entry(2, outcome=Outcome.CUT_OFF, duration_s=None)
    assert found(RELEASE, cut, containers=[replace(BACKEND, created_at=NOW)]) == ()


def test_an_image_that_nothing_runs_any_more_is_drift() -> None:
    release = replace(RELEASE, images={IMAGE: "sha256:1", "grafana/grafana:13": "sha256:3"})
    (said,) = found(release)
    assert said == "nothing runs grafana:13, which is in release r1"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("~ .env.core", ".env.core differs from the release"),
        ("- monitoring/a.yml", "monitoring/a.yml is gone, and was in the release"),
        ("+ monitoring/b c.yml", "monitoring/b c.yml is new since the release"),
    ],
)
def test_files_that_changed_are_named(line: str, said: str) -> None:
    assert found(RELEASE, files=[line]) == (said,)


def test_many_files_are_counted() -> None:
    said = found(RELEASE, files=[f"~ {number}" for number in range(20)])
    assert len(said) == 6
    assert said[-1] == "15 more files differ"
