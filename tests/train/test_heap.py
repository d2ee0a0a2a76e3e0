"""What tensors on the CPU take memory from while a model is trained, each time in a process of its own."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc needs it")


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


@needs_glibc
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


@needs_glibc
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


REPORT = "print(report.reuses, report.detail, '->', report.remedy, float(torch.ones(3).sum()))"


@needs_glibc
@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("/there/is/none", "could not be compiled: [Errno 2] No such file or directory: '/there/is/none'"),
        (f"{sys.executable} -c 'raise SystemExit(\"error: no headers\")'", "compiled: error: no headers"),
        (f"{sys.executable} -c 'raise SystemExit(3)'", "returned non-zero exit status 3"),
        ('g++ "', "CXX is 'g++ \"': No closing quotation"),
        (f"{sys.executable} -c 'import sys; open(sys.argv[8], chr(119)).close()'", "cannot be loaded"),
    ],
)
def test_without_a_compiler_it_says_so_and_training_goes_on(
    tmp_path: Path, compiler: str, reason: str
) -> None:
    told = run(REPORT, CXX=compiler, XDG_CACHE_HOME=str(tmp_path))
    assert told.startswith("False ")
    assert reason in told
    assert "-> training takes up to 1.5 times as much; " in told
    assert told.endswith(" 3.0")


@needs_glibc
def test_without_a_place_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    told = run(REPORT, XDG_CACHE_HOME=str(tmp_path / "file"))
    assert told.startswith("False heap.cpp has no place to be compiled to: ")
    assert str(tmp_path / "file") in told
    assert "set XDG_CACHE_HOME to a folder of yours" in told


@needs_glibc
def test_what_others_could_have_written_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "spellbound"
    folder.mkdir()
    folder.chmod(0o777)
    told = run(REPORT, XDG_CACHE_HOME=str(tmp_path))
    assert told.startswith(f"False {folder} can be written by others")
    assert f"chmod go-w {folder}" in told
    folder.chmod(0o755)
    assert run(REPORT, XDG_CACHE_HOME=str(tmp_path)).startswith("True")
    (file,) = folder.iterdir()
    first = file.read_bytes()
    file.write_bytes(b"somebody's")
    file.chmod(0o666)
    assert run(REPORT, XDG_CACHE_HOME=str(tmp_path)).startswith("True")
    assert file.read_bytes() == first


@needs_glibc
def test_it_is_compiled_once_and_anew_when_it_is_damaged(tmp_path: Path) -> None:
    assert run(REPORT, XDG_CACHE_HOME=str(tmp_path)).startswith("True found again: heap.cpp is compiled for")
    (file,) = (tmp_path / "spellbound").iterdir()
    assert file.stat().st_mode & 0o777 == 0o700
    made = file.stat().st_mtime_ns
    assert run(REPORT, XDG_CACHE_HOME=str(tmp_path), CXX="/there/is/none").startswith("True")
    assert file.stat().st_mtime_ns == made
    file.write_bytes(b"damaged")
    assert run(REPORT, XDG_CACHE_HOME=str(tmp_path)).startswith("True")
    assert [each.name for each in file.parent.iterdir()] == [file.name]


@needs_glibc
def test_a_relative_cache_folder_does_not_count(tmp_path: Path) -> None:
    told = run(
        REPORT + "\nimport pathlib; print(pathlib.Path('there').exists())",
        XDG_CACHE_HOME="there",
        HOME=str(tmp_path),
    )
    assert told.startswith("True")
    assert told.endswith("False")
    assert list((tmp_path / ".cache" / "spellbound").iterdir())


@needs_glibc
def test_the_profiler_sees_what_tensors_take() -> None:
    code = """
from torch.profiler import ProfilerActivity, profile
with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
    torch.ones(1 << 20)
print(max(event.cpu_memory_usage for event in seen.key_averages()))
"""
    assert int(run(code)) == 4 << 20


@needs_glibc
def test_training_and_plans_use_it(tmp_path: Path) -> None:
    code = """
from spellbound.train.plan.hardware import this_device
assert not torch.cuda.is_available()
print(this_device().heap)
"""
    found = run(code, XDG_CACHE_HOME=str(tmp_path))
    assert "holes=0.3" in found
    assert "note=''" in found
    without = run(code, CXX="/there/is/none", XDG_CACHE_HOME=str(tmp_path / "other"))
    assert "holes=0.7" in without
    assert "note='memory: " in without or 'note="memory: ' in without
