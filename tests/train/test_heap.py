"""What tensors on the CPU take memory from while a model is trained, each time in a process of its own."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

GLIBC = platform.libc_ver()[0] == "glibc"


def run(code: str, **environment: str) -> str:
    """Run some lines after `use_heap` and return what they print."""
    begin = "import torch\nfrom spellbound.train.heap import use_heap\nreport = use_heap()\n"
    done = subprocess.run(
        [sys.executable, "-c", begin + code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.skipif(not GLIBC, reason="only glibc's malloc needs it")
def test_freed_memory_is_found_again() -> None:
    code = """
print(report.reuses)
small = [torch.ones(3) for _ in range(1000)]
for _ in range(3):
    kept, places = [], []
    for size in (1 << 20, 3 << 20, 5 << 20):
        tensor = torch.ones(size)
        places.append(tensor.data_ptr())
        kept.append(tensor)
        small.append(torch.ones(5))
    del tensor, kept
    print(places)
"""
    there, _, second, third = run(code).splitlines()
    assert there == "True"
    assert second == third


@pytest.mark.skipif(not GLIBC, reason="only glibc's malloc needs it")
def test_tensors_are_what_they_were() -> None:
    code = """
import pickle
for size in (0, 1, 15, 16, 17, 4095, 1 << 20):
    tensor = torch.arange(size, dtype=torch.uint8 if size < 256 else torch.int64)
    assert tensor.data_ptr() % 64 == 0, size
    assert torch.equal(pickle.loads(pickle.dumps(tensor)), tensor)
    assert tensor.clone().resize_(2 * size + 1)[:size].equal(tensor)
    assert torch.from_numpy(tensor.numpy()).data_ptr() == tensor.data_ptr()
x = torch.randn(64, 128, requires_grad=True)
(x.bfloat16() @ x.bfloat16().T).sum().backward()
assert x.grad.isfinite().all()
for size in (1 << 60, (1 << 63) - 1):
    try:
        torch.empty(size, dtype=torch.uint8)
    except torch.OutOfMemoryError as error:
        print(str(error).splitlines()[0])
"""
    first, second = run(code).splitlines()
    assert first.endswith(f"no memory for a tensor of {1 << 60} bytes")
    assert second.endswith(f"no memory for a tensor of {(1 << 63) - 1} bytes")


@pytest.mark.skipif(not GLIBC, reason="only glibc's malloc needs it")
@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("/there/is/none", "No such file or directory: '/there/is/none'"),
        (f"{sys.executable} -c 'raise SystemExit(\"error: no headers\")'", "error: no headers"),
        (f"{sys.executable} -c 'raise SystemExit(3)'", "returned non-zero exit status 3"),
    ],
)
def test_without_a_compiler_it_says_so_and_training_goes_on(
    tmp_path: Path, compiler: str, reason: str
) -> None:
    told = run(
        "print(report.reuses, report.detail, '->', report.remedy, float(torch.ones(3).sum()))",
        CXX=compiler,
        XDG_CACHE_HOME=str(tmp_path),
    )
    assert told.startswith("False heap.cpp could not be compiled: ")
    assert reason in told
    assert told.endswith("install g++, or set CXX 3.0")
    assert not [each for each in tmp_path.rglob("*") if each.is_file()]


@pytest.mark.skipif(not GLIBC, reason="only glibc's malloc needs it")
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = run("print(report.reuses, report.detail)", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert told.startswith("False")
    assert str(tmp_path / "file") in told
