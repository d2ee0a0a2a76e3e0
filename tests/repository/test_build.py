"""The package's build: the CPU kernels with a compiler, without one, and in a source distribution."""

import ctypes
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = Path("spellbound/jamba/ops") / f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"
NO_COMPILER = {"CC": "/nowhere/cc", "CXX": "/nowhere/c++"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Make a copy of what a build reads, so that no test writes into the repository."""
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    built = shutil.ignore_patterns("_kernels.*", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=built)
    return tmp_path


def build(checkout: Path, *command: str, **environment: str) -> str:
    """Run setuptools as pip does; the status is 0 or the test fails."""
    run = subprocess.run(
        [sys.executable, "setup.py", *command],
        cwd=checkout,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout + run.stderr


def test_with_a_compiler_there_is_a_c_library(checkout: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler: apt-get install g++")
    build(checkout, "build_ext", "--inplace")
    library = ctypes.CDLL(str(checkout / "src" / LIBRARY))
    assert library.spellbound_lanes(b"portable") > 0


def test_without_one_the_build_succeeds_says_so_and_leaves_no_old_library(checkout: Path) -> None:
    old = checkout / "src" / LIBRARY
    old.write_bytes(b"built from an older source")
    output = build(checkout, "build_ext", "--inplace", **NO_COMPILER)
    assert 'building extension "spellbound.jamba.ops._kernels" failed' in output
    assert not old.exists()


def test_a_source_distribution_has_what_the_kernel_is_compiled_from(checkout: Path) -> None:
    build(checkout, "sdist", "--dist-dir", "out")
    (archive,) = (checkout / "out").glob("*.tar.gz")
    with tarfile.open(archive) as files:
        names = {name.partition("/")[2] for name in files.getnames()}
    sources = {str(file.relative_to(ROOT)) for file in (ROOT / "src/spellbound/jamba/ops/csrc").iterdir()}
    assert len(sources) >= 2
    assert sources | {"setup.py", "LICENSE", "src/spellbound/py.typed"} <= names
