"""What runs on GitHub."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

WORKFLOWS = ("test.yml", "image.yml")


def workflow(root, name):
    text = (root / ".github" / "workflows" / name).read_text(encoding="utf-8")
    # YAML 1.1 reads the key `on` as true.
    return {("on" if key is True else key): value for key, value in yaml.safe_load(text).items()}


def test_zizmor_finds_nothing_even_when_pedantic(root):
    done = subprocess.run(
        [
            Path(sys.executable).with_name("zizmor"),
            *("--offline", "--quiet", "--persona", "pedantic", "--format", "plain"),
            root / ".github",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", WORKFLOWS)
def test_every_action_is_pinned_by_commit_with_its_version_beside_it(root, name):
    text = (root / ".github" / "workflows" / name).read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)$", text, re.MULTILINE)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize("name", WORKFLOWS)
def test_jobs_have_no_more_rights_than_they_name(root, name):
    read = workflow(root, name)
    assert read["permissions"] == {}
    for job in read["jobs"].values():
        assert job["permissions"]["contents"] == "read"
        assert job["timeout-minutes"]


def test_pull_requests_are_tested_and_only_main_publishes(root):
    assert set(workflow(root, "test.yml")["on"]) == {"pull_request"}
    assert workflow(root, "image.yml")["on"] == {"push": {"branches": ["main"]}}


def test_only_publishing_may_write_and_only_packages(root):
    writing = {
        (name, right)
        for name in WORKFLOWS
        for job in workflow(root, name)["jobs"].values()
        for right, level in job["permissions"].items()
        if level == "write"
    }
    assert writing == {("image.yml", "packages")}


def test_both_images_are_published_by_short_commit_and_as_latest(root):
    (job,) = workflow(root, "image.yml")["jobs"].values()
    images = {entry["image"]: entry["dockerfile"] for entry in job["strategy"]["matrix"]["include"]}
    assert images == {
        "ktrdr-backend": "deploy/Dockerfile",
        "ktrdr-nfs-server": "deploy/nfs-server/Dockerfile",
    }
    naming = next(step["run"] for step in job["steps"] if step.get("id") == "name")
    assert "sha-${GITHUB_SHA::7}" in naming
    push = job["steps"][-1]["with"]
    assert push["tags"].split() == [
        "${{",
        "steps.name.outputs.image",
        "}}:${{",
        "steps.name.outputs.tag",
        "}}",
        "${{",
        "steps.name.outputs.image",
        "}}:latest",
    ]
    assert "GIT_COMMIT=${{ github.sha }}" in push["build-args"]
