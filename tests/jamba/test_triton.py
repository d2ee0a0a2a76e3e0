"""The Triton kernels: their cases run in processes of their own, for a process interprets all or nothing."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import spellbound.jamba.ops.triton as kernels

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="no triton; pip install triton (Linux)"
)


def start(*arguments: str, cache: Path, interpret: bool = False) -> subprocess.Popen[str]:
    """Start Python at the root of the repository, with Triton's cache in a folder of the test's."""
    environment = {**os.environ, "TRITON_INTERPRET": str(int(interpret)), "TRITON_CACHE_DIR": str(cache)}
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=HERE.parents[1],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Both files of cases, at the same time: neither uses more than one core."""
    processes = {}
    for name, interpret in {"triton_cases.py": True, "triton_hopper.py": False}.items():
        command = ("-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / name))
        processes[name] = start(*command, cache=tmp_path_factory.mktemp("triton"), interpret=interpret)
    yield processes
    for process in processes.values():
        with process:  # waits, and closes the pipe
            process.kill()


@needs_triton
@pytest.mark.parametrize("name", ["triton_cases.py", "triton_hopper.py"])
def test_cases(name: str, cases: dict[str, subprocess.Popen[str]]) -> None:
    output, _ = cases[name].communicate()
    assert cases[name].returncode == 0, output[-8000:]


def test_without_triton_all_else_works_and_says_what_to_do(tmp_path: Path) -> None:
    code = (
        "import sys, torch, transformers\n"  # they may import Triton; we must not
        "sys.modules['triton'] = None\n"
        "import spellbound.jamba, spellbound.jamba.ops.triton as kernels\n"
        "assert not kernels.available()\n"
        "assert 'pip install triton' in kernels.explain()"
    )
    process = start("-c", code, cache=tmp_path)
    output, _ = process.communicate()
    assert process.returncode == 0, output


def test_no_other_names() -> None:
    with pytest.raises(AttributeError, match="selective_scan_tritonn"):
        _ = kernels.selective_scan_tritonn
