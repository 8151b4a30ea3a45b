"""Removal of unused files from the image."""

from __future__ import annotations

from importlib.util import find_spec

from deploy.slim import remove_unused
from deploy.warm import MODULES


def environment(tmp_path, *files):
    packages = tmp_path / "lib" / "python3.13" / "site-packages"
    for name in files:
        path = packages / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * 100)
    scripts = tmp_path / "bin"
    scripts.mkdir()
    for name in ("pip", "pip3.13", "python3", "uvicorn"):
        (scripts / name).touch()
    return packages


def test_tests_headers_and_pip_are_removed_and_programs_stay(tmp_path):
    packages = environment(
        tmp_path,
        "numpy/core.py",
        "numpy/linalg/tests/test_it.py",
        "numpy/_core/include/numpy/arrayobject.h",
        "sklearn/tree/_tree.pxd",
        "pip/__init__.py",
        "pip-24.0.dist-info/METADATA",
        "uvicorn/main.py",
    )
    remove_unused(tmp_path)
    left = {str(p.relative_to(packages)) for p in packages.rglob("*") if p.is_file()}
    assert left == {"numpy/core.py", "uvicorn/main.py"}
    assert {p.name for p in (tmp_path / "bin").iterdir()} == {"python3", "uvicorn"}


def test_the_removed_size_is_returned(tmp_path):
    environment(tmp_path, "numpy/core.py", "numpy/tests/test_it.py", "pandas/tests/a/b.py")
    assert remove_unused(tmp_path) == 200


def test_a_module_with_tests_in_its_name_stays(tmp_path):
    packages = environment(tmp_path, "scipy/latests/a.py", "scipy/tests.py")
    remove_unused(tmp_path)
    assert (packages / "scipy/latests/a.py").exists()


def test_all_preloaded_modules_exist():
    for module in MODULES:
        assert find_spec(module.partition(".")[0]), module
