"""The C++ kernels under AddressSanitizer and UndefinedBehaviorSanitizer: nothing past an end, no overflow."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jamba.kernels import needs_library

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "src/spellbound/jamba/ops/csrc"
FLAGS = (
    "-std=c++17 -O1 -g -ffp-contract=fast -fno-math-errno -fPIC -shared -pthread -fsanitize=address,undefined"
)


@needs_library
@pytest.mark.timeout(600)
def test_no_kernel_leaves_its_memory(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("the sanitizers are gcc's: apt-get install g++")
    library = tmp_path / "kernels.so"
    subprocess.run(
        [
            compiler,
            *FLAGS.split(),
            "-fno-sanitize-recover=all",
            str(CSRC / "kernels.cpp"),
            "-o",
            str(library),
        ],
        check=True,
    )
    runtime = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so")
    ]
    run = subprocess.run(
        [sys.executable, "-m", "tests.jamba.sanitized", str(library)],
        cwd=ROOT,
        # Leaks are not looked for: the interpreter itself frees little when it ends.
        env=os.environ
        | {
            "LD_PRELOAD": ":".join(runtime),
            "ASAN_OPTIONS": "detect_leaks=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-4000:]
    assert "all kernels ran" in run.stdout


@needs_library
def test_a_crew_shares_its_jobs_without_a_race(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("the sanitizers are gcc's: apt-get install g++")
    program = tmp_path / "crew"
    flags = ["-std=c++17", "-O1", "-g", "-pthread", "-fsanitize=thread", "-Wno-unused-function"]
    source = Path(__file__).with_name("crew.cpp")
    subprocess.run([compiler, *flags, f"-I{CSRC}", str(source), "-o", str(program)], check=True)
    run = subprocess.run([program], capture_output=True, text=True, check=False, timeout=120)
    assert (run.returncode, run.stdout) == (0, "0 wrong\n"), run.stderr[-4000:]
