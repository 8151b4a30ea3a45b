"""Decision on what can be removed from a host, and above all on what must stay."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from ktrdr.deployment.hosts.history import (
    ALL,
    DeployOutcome,
    HistoryEntry,
    last_good,
    previous_release,
)
from ktrdr.deployment.hosts.host import DeployId
from ktrdr.deployment.prune import PrunePlan, make_prune_plan, needed_releases
from tests.unit.deployment.histories import FIRST_DAY, history_entry, history_lines
from tests.unit.deployment.sample_hosts import BACKEND_IMAGE


def tag(number: int) -> str:
    return f"sha-000000{number}"


def image(number: int, *, has_tag: bool = True, repository: str = BACKEND_IMAGE) -> str:
    return json.dumps(
        {
            "id": f"sha256:id{number}",
            "tags": [f"{repository}:{tag(number)}"] if has_tag else [],
            "digests": [f"{repository}@sha256:digest{number}"],
            "size": 1000,
        }
    )


def release(number: int, **changes) -> HistoryEntry:
    images = {f"{BACKEND_IMAGE}:{tag(number)}": f"sha256:digest{number}"}
    return history_entry(number, **{"images": images, **changes})


def plan_of(*entries: HistoryEntry, keep: int = 2, **output: list[str]) -> PrunePlan:
    return make_prune_plan({"history": history_lines(*entries), **output}, [BACKEND_IMAGE], keep)


def image_ids(plan: PrunePlan) -> list[str]:
    return [image.id for image in plan.images]


def test_images_of_old_releases_are_removed_and_those_of_the_last_ones_stay() -> None:
    entries = [release(number) for number in (1, 2, 3, 4)]
    images = [image(number) for number in (1, 2, 3, 4)]
    assert image_ids(plan_of(*entries, images=images)) == ["sha256:id1", "sha256:id2"]


def test_an_image_that_a_container_uses_stays() -> None:
    entries = [release(number) for number in (1, 2, 3)]
    assert not plan_of(*entries, images=[image(1)], used=["sha256:id1"]).images


def test_failed_releases_do_not_count_as_kept_ones() -> None:
    entries = [release(1), release(2), release(3, outcome=DeployOutcome.FAILED), release(4)]
    images = [image(number) for number in (1, 2, 3, 4)]
    assert image_ids(plan_of(*entries, images=images)) == ["sha256:id1", "sha256:id3"]


def test_the_last_deploy_stays_however_it_ended() -> None:
    cut_off = release(3, outcome=DeployOutcome.CUT_OFF)
    images = [image(number) for number in (1, 2, 3)]
    assert not plan_of(release(1), release(2), cut_off, images=images).images


def test_redeploys_of_one_release_count_once() -> None:
    again = [
        replace(release(2), deploy=DeployId(f"again-{number}", "ada@laptop", FIRST_DAY))
        for number in range(3)
    ]
    assert not plan_of(release(1), *again, images=[image(1)]).images


def test_an_image_whose_tag_moved_is_recognised_by_its_digest() -> None:
    images = [image(1, has_tag=False), image(2, has_tag=False)]
    assert image_ids(plan_of(release(2), images=images, keep=1)) == ["sha256:id1"]


def test_an_image_without_any_name_is_recognised_by_a_recorded_digest() -> None:
    nameless = [
        json.dumps({"id": f"sha256:digest{number}", "tags": [], "digests": [], "size": 1})
        for number in (1, 2, 3, 9)
    ]
    entries = [release(1), release(2), release(3)]
    assert image_ids(plan_of(*entries, images=nameless)) == ["sha256:digest1"]


def test_the_way_in_which_names_are_written_does_not_matter() -> None:
    names = {"docker.io/library/redis:7": "sha256:digest1", "docker.io/a/b@sha256:digest4": ""}
    first = release(1, images=names)
    images = [image(1, repository="redis"), image(4, repository="a/b")]
    assert image_ids(plan_of(first, release(2), release(3), images=images)) == [
        *("sha256:id4", "sha256:id1"),
    ]
    assert not plan_of(first, images=[image(1, repository="redis")]).images
    pulled = json.loads(image(1)) | {"tags": ["x@sha256:digest1", "x:1"]}
    (removed,) = plan_of(release(2), images=[json.dumps(pulled)], keep=1).images
    assert removed.name == "x:1"


def test_images_of_others_stay_unless_a_release_used_them() -> None:
    foreign = image(7, repository="another/program")
    released = image(8, repository="grafana/grafana")
    first = release(1, images={f"grafana/grafana:{tag(8)}": "sha256:digest8"})
    plan = plan_of(first, release(2), release(3), images=[foreign, released])
    assert image_ids(plan) == ["sha256:id8"]


def test_configurations_of_old_releases_and_partial_files_are_removed() -> None:
    entries = [release(number) for number in (1, 2, 3)]
    kept = ["10 conf-1.tar.gz", "10 conf-2.tar.gz", "10 conf-3.tar.gz", "5 conf-9.tar.gz.partial"]
    plan = plan_of(*entries, kept=kept, staged=["12"])
    assert plan.configurations == (("conf-1.tar.gz", 10), ("conf-9.tar.gz.partial", 5))
    assert plan.size == 15 + 12 * 1024


def test_a_host_without_old_releases_has_nothing_to_remove() -> None:
    assert plan_of(release(1), images=[image(1)], kept=["10 conf-1.tar.gz"]).is_empty


@given(st.lists(st.tuples(st.integers(1, 5), st.sampled_from(DeployOutcome))), st.integers(1, 4))
def test_the_targets_of_a_rollback_always_stay(
    deploys: list[tuple[int, DeployOutcome]], keep: int
) -> None:
    entries = [release(number, outcome=outcome) for number, outcome in deploys]
    needed = needed_releases(entries, keep)
    good = last_good(entries, ALL)
    assert good is None or good in needed
    if entries:
        assert entries[-1] in needed
        target = previous_release(entries)
        if target and keep > 1:
            assert any(target.is_same_release(each) for each in needed)


@given(st.dictionaries(st.sampled_from(["images", "kept", "used", "staged"]), st.lists(st.text())))
def test_unreadable_output_removes_no_image(output: dict[str, list[str]]) -> None:
    assert not make_prune_plan(output, [BACKEND_IMAGE], 2).images
