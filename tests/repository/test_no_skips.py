"""The plugin that makes CI fail on a skip."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SKIPPED_TEST = "import pytest\ndef test_it() -> None:\n    pytest.skip('no browser: apt-get install one')\n"
SKIPPED_MODULE = "import pytest\npytest.skip('no database', allow_module_level=True)\n"
EXPECTED_FAILURE = "import pytest\n@pytest.mark.xfail\ndef test_it() -> None:\n    raise ValueError\n"


def run_pytest(folder: Path, source: str, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(source, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *options, str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("source", [SKIPPED_TEST, SKIPPED_MODULE], ids=["a test", "a module"])
def test_a_skip_fails_and_keeps_its_reason(tmp_path: Path, source: str) -> None:
    outcome = run_pytest(tmp_path, source, "-p", "tests.no_skips")
    assert outcome.returncode != 0
    assert "nothing may be skipped here" in outcome.stdout
    assert "no browser" in outcome.stdout or "no database" in outcome.stdout


def test_without_the_plugin_a_skip_is_a_skip(tmp_path: Path) -> None:
    outcome = run_pytest(tmp_path, SKIPPED_TEST)
    assert outcome.returncode == 0
    assert "1 skipped" in outcome.stdout


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    outcome = run_pytest(tmp_path, EXPECTED_FAILURE, "-p", "tests.no_skips")
    assert outcome.returncode == 0
    assert "1 xfailed" in outcome.stdout
