"""GitHub workflows: permissions, pinned actions, published images, the example deploy."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

WORKFLOWS = ("test.yml", "image.yml", "real-images.yml")
# A job that runs another workflow of this repository has that workflow's steps and time limits.
CALLED = "./.github/workflows/test.yml"
EXAMPLE = "deploy.yml.example"


def workflow(root, name):
    text = (root / ".github" / "workflows" / name).read_text(encoding="utf-8")
    # YAML 1.1 reads the key `on` as true.
    return {("on" if key is True else key): value for key, value in yaml.safe_load(text).items()}


@pytest.fixture
def as_on_github(root, tmp_path):
    """Return the workflows, with the example enabled as its first lines describe."""
    copy = tmp_path / ".github"
    shutil.copytree(root / ".github", copy)
    (copy / "workflows" / EXAMPLE).rename(copy / "workflows" / "deploy.yml")
    return copy


def test_zizmor_finds_no_problem_in_pedantic_mode(as_on_github):
    done = subprocess.run(
        [
            Path(sys.executable).with_name("zizmor"),
            *("--offline", "--quiet", "--persona", "pedantic", "--format", "plain"),
            as_on_github,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", [*WORKFLOWS, EXAMPLE])
def test_every_action_is_pinned_by_commit_and_names_its_version(root, name):
    text = (root / ".github" / "workflows" / name).read_text(encoding="utf-8")
    used = re.findall(r"uses: (.*)$", text, re.MULTILINE)
    assert used
    for action in (each for each in used if not each.startswith(f"{CALLED} # zizmor: ")):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize("name", [*WORKFLOWS, EXAMPLE])
def test_jobs_have_only_the_permissions_that_they_declare(root, name):
    read = workflow(root, name)
    assert read["permissions"] == {}
    for job in read["jobs"].values():
        assert job["permissions"]["contents"] == "read"
        assert job.get("timeout-minutes") or job["uses"] == CALLED


def test_pull_requests_are_tested_and_only_main_publishes(root):
    assert set(workflow(root, "test.yml")["on"]) == {"pull_request", "workflow_call"}
    assert workflow(root, "image.yml")["on"] == {"push": {"branches": ["main"]}}


def test_only_the_publishing_job_has_write_permission_and_only_for_packages(root):
    writing = {
        (name, right)
        for name in (*WORKFLOWS, EXAMPLE)
        for job in workflow(root, name)["jobs"].values()
        for right, level in job["permissions"].items()
        if level == "write"
    }
    assert writing == {("image.yml", "packages")}


def pushing_step(job):
    """Return the step that builds and pushes an image."""
    (step,) = (each for each in job["steps"] if "build-push-action" in each.get("uses", ""))
    return step


def test_both_images_are_published_by_short_commit(root):
    job = workflow(root, "image.yml")["jobs"]["push"]
    images = {entry["image"]: entry["dockerfile"] for entry in job["strategy"]["matrix"]["include"]}
    assert images == {
        "ktrdr-backend": "deploy/Dockerfile",
        "ktrdr-nfs-server": "deploy/nfs-server/Dockerfile",
    }
    naming = next(step["run"] for step in job["steps"] if step.get("id") == "name")
    assert "sha-${GITHUB_SHA::7}" in naming
    push = pushing_step(job)["with"]
    name = "${{ steps.name.outputs.image }}:${{ steps.name.outputs.tag }}"
    assert push["tags"] == name
    assert "GIT_COMMIT=${{ github.sha }}" in push["build-args"]


def test_real_images_are_tried_weekly_and_with_every_change_that_concerns_them(root):
    triggers = workflow(root, "real-images.yml")["on"]
    assert set(triggers) == {"pull_request", "schedule", "workflow_dispatch"}
    paths = triggers["pull_request"]["paths"]
    assert {"docker-compose*.yml", "deploy/**", "monitoring/**"} <= set(paths)
    for path in paths:
        assert list(root.glob(path)), path
    (job,) = workflow(root, "real-images.yml")["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["scripts/real-images"]


def test_images_are_built_only_after_the_tests_of_their_commit_passed(root):
    jobs = workflow(root, "image.yml")["jobs"]
    assert jobs["test"]["uses"] == CALLED
    assert jobs["push"]["needs"] == "test"
    # With a group for the branch, the next merge would cancel the tests, and so the image.
    group = workflow(root, "test.yml")["concurrency"]["group"]
    assert group == "test-${{ github.event.pull_request.number || github.sha }}"


@pytest.mark.parametrize(("newest", "is_moved"), [("abc", True), ("def", False)])
def test_only_the_newest_commit_moves_the_tag_latest(root, tmp_path, newest, is_moved):
    script = workflow(root, "image.yml")["jobs"]["push"]["steps"][-1]["run"]
    for name, text in (("gh", f"echo {newest}"), ("docker", f'echo "$*" >>{tmp_path}/record')):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    variables = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "GITHUB_SHA": "abc",
        "GITHUB_REPOSITORY": "acme/ktrdr",
        "GITHUB_REF_NAME": "main",
        "IMAGE": "ghcr.io/acme/ktrdr-backend",
        "TAG": "sha-abc1234",
    }
    # GitHub runs steps with these options.
    subprocess.run(["bash", "-e", "-c", script], env=variables, check=True)
    record = tmp_path / "record"
    assert record.exists() == is_moved
    if is_moved:
        assert record.read_text() == (
            "buildx imagetools create --tag ghcr.io/acme/ktrdr-backend:latest "
            "ghcr.io/acme/ktrdr-backend:sha-abc1234\n"
        )


def test_images_are_for_hosts_and_for_macs_and_describe_their_origin(root):
    steps = workflow(root, "image.yml")["jobs"]["push"]["steps"]
    (emulation,) = (step for step in steps if "qemu" in step.get("uses", ""))
    assert emulation["with"]["platforms"] == "arm64"
    push = pushing_step({"steps": steps})["with"]
    assert push["platforms"] == "linux/amd64,linux/arm64"
    assert (push["provenance"], push["sbom"]) == ("mode=max", True)


@pytest.mark.parametrize(
    ("target", "variables", "image", "dockerfile"),
    [
        (
            "build-backend",
            ["TAG=sha-abc1234"],
            "ghcr.io/ktrdr/ktrdr-backend:sha-abc1234",
            "deploy/Dockerfile",
        ),
        ("build-backend", [], "ghcr.io/ktrdr/ktrdr-backend:local", "deploy/Dockerfile"),
        (
            "build-nfs-server",
            ["TAG=x", "NFS_IMAGE_NAME=example.org/nfs"],
            "example.org/nfs:x",
            "deploy/nfs-server/Dockerfile",
        ),
    ],
)
def test_make_builds_an_image_under_a_tag(root, tmp_path, target, variables, image, dockerfile):
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\necho "$DOCKER_BUILDKIT $*" >{tmp_path}/record\n')
    docker.chmod(0o755)
    subprocess.run(
        ["make", "--no-print-directory", target, *variables],
        cwd=root,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=True,
        capture_output=True,
    )
    built = (tmp_path / "record").read_text()
    assert built.startswith(f"1 build --file {dockerfile} --tag {image} --build-arg GIT_COMMIT=")
    assert re.search(r"VERSION=\d+\.\d+\.\d+ \.$", built)


@pytest.mark.parametrize(
    ("name", "different"), [("image.yml", "github.sha"), (EXAMPLE, "github.run_id")]
)
def test_no_waiting_run_is_cancelled_by_a_later_one(root, name, different):
    # GitHub cancels all waiting runs of a group except the last. So no two runs share a group.
    concurrency = workflow(root, name)["concurrency"]
    assert f"${{{{ {different} }}}}" in concurrency["group"]
    assert concurrency["cancel-in-progress"] is False


def test_a_deploy_waits_for_approval_and_for_the_locks_of_others(root):
    read = workflow(root, EXAMPLE)
    assert set(read["on"]) == {"workflow_dispatch"}
    assert "--lock-wait 900\n" in read["jobs"]["deploy"]["steps"][-1]["run"]
    assert read["jobs"]["deploy"]["environment"] == "homelab"
    *others, deploying = read["jobs"]["deploy"]["steps"]
    assert "secrets." not in str(others)
    # Input of a user reaches the script as a variable, never as a part of it.
    assert "${{" not in deploying["run"]


def run_the_deploy(root, tmp_path, key, **changes):
    """Run the last step of the example with a stand-in for ktrdr, which records its input."""
    command = tmp_path / "ktrdr/bin/ktrdr"
    command.parent.mkdir(parents=True)
    command.write_text(
        f'#!/bin/sh\nexec >{tmp_path}/record\necho "$@"; ssh-add -l; env; cat "$KTRDR_SSH_CONFIG"\n'
    )
    command.chmod(0o755)
    step = workflow(root, EXAMPLE)["jobs"]["deploy"]["steps"][-1]
    given = {
        "WHAT": "core backend",
        "KTRDR_DEPLOY_TAG": "",
        "KNOWN_HOSTS": "backend ssh-ed25519 AAAA\nworkers-b ssh-ed25519 BBBB",
        "LOGIN": "deploy",
        "SSH_KEY": key,
        "OP_SERVICE_ACCOUNT_TOKEN": "ops_x",
    }
    assert step["env"].keys() == given.keys()
    environment = {"PATH": os.environ["PATH"], "RUNNER_TEMP": str(tmp_path), **given, **changes}
    # As GitHub runs it.
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not shutil.which("ssh-agent"), reason="needs the OpenSSH client")
def test_the_deploy_key_is_only_in_an_agent_and_only_pinned_hosts_are_trusted(root, tmp_path):
    new = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")]
    subprocess.run(new, check=True)
    key = (tmp_path / "key").read_text()
    (tmp_path / "key").unlink()
    done = run_the_deploy(root, tmp_path, key)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    recorded = (tmp_path / "record").read_text()
    assert recorded.startswith("deploy core backend --lock-wait 900\n256 SHA256:")
    assert "StrictHostKeyChecking yes\n" in recorded
    assert (tmp_path / "known_hosts").read_text().splitlines() == [
        "backend ssh-ed25519 AAAA",
        "workers-b ssh-ed25519 BBBB",
    ]
    assert "PRIVATE KEY" not in "".join(
        path.read_text() for path in tmp_path.rglob("*") if path.is_file()
    )
    (socket,) = re.findall(r"SSH_AUTH_SOCK=(.+)", recorded)
    ended_by = time.monotonic() + 5
    while Path(socket).exists() and time.monotonic() < ended_by:
        time.sleep(0.02)
    assert not Path(socket).exists()


@pytest.mark.skipif(not shutil.which("ssh-agent"), reason="needs the OpenSSH client")
def test_an_invalid_key_ends_the_job_before_the_deploy(root, tmp_path):
    done = run_the_deploy(root, tmp_path, "not a key")
    assert done.returncode != 0
    assert not (tmp_path / "record").exists()
