"""The doctor, under real conditions: each test runs it in a process whose surroundings are really so."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import spellbound.cli.doctor as doctor_module
from spellbound.cli.doctor import CHECKS, Finding, examine
from spellbound.errors import ModelError

SOURCE = Path(doctor_module.__file__).parents[2]
RUN = "import typer; from spellbound.cli.doctor import doctor; typer.run(doctor)"


def consult(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUN],
        env=os.environ | {"COLUMNS": "200", "PYTHONIOENCODING": "utf-8"} | environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def line_of(subject: str, output: str) -> str:
    return next(line for line in output.splitlines() if line[3:].startswith(subject))


@pytest.fixture
def source_without_library(tmp_path: Path) -> Path:
    """Make a copy of the package as an install without a compiler leaves it."""
    shutil.copytree(
        SOURCE / "spellbound",
        tmp_path / "spellbound",
        ignore=shutil.ignore_patterns("*.so", "*.pyd", "*.pyc"),
    )
    return tmp_path


def findings_of(subject: str) -> list[Finding]:
    return list(CHECKS[subject]())


def test_every_finding_names_its_subject_and_every_failure_its_remedy() -> None:
    for finding in examine():
        assert finding.subject
        assert finding.detail
        assert finding.status == "ok" or finding.remedy or ";" in finding.detail


def test_packages_are_compared_with_what_the_base_declares() -> None:
    findings = findings_of("packages")
    assert [finding.status for finding in findings] == ["ok", "ok"]
    assert "torch 2." in findings[-1].detail
    assert "pytest" not in findings[-1].detail


def test_a_package_of_a_wrong_version_is_broken(tmp_path: Path) -> None:
    folder = tmp_path / "tokenizers-0.1.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tokenizers\nVersion: 0.1\n", encoding="utf-8"
    )
    outcome = consult(PYTHONPATH=f"{tmp_path}{os.pathsep}{SOURCE}")
    assert outcome.returncode == 1
    assert line_of("tokenizers", outcome.stdout).startswith("✗")
    assert "is 0.1, and >=" in line_of("tokenizers", outcome.stdout)
    assert "→ run: make install" in outcome.stdout


def test_extras_lists_each_extra_that_adds_packages() -> None:
    (finding,) = findings_of("extras")
    for extra in ("bench", "scale", "studio", "train", "voice"):
        assert extra in finding.detail
    assert "all" not in finding.detail.replace("installed", "")


def test_processor_and_memory_are_named() -> None:
    (processor,) = findings_of("processor")
    assert "cores" in processor.detail
    (memory,) = findings_of("memory")
    assert "GiB available" in memory.detail


def test_forced_slow_kernels_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPELLBOUND_KERNELS", "reference")
    finding, *_ = findings_of("kernels")  # a GPU has its own
    assert finding.status == "warn"
    assert finding.detail.startswith("reference")
    assert finding.remedy == "unset SPELLBOUND_KERNELS"


def test_unknown_kernels_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPELLBOUND_KERNELS", "fastest")
    finding = next(finding for finding in examine() if finding.subject == "kernels")
    assert finding.status == "fail"
    assert "'fastest'" in finding.detail


def test_no_compiled_kernels_are_a_warning_and_the_remedy_is_a_compiler(source_without_library: Path) -> None:
    outcome = consult(PYTHONPATH=str(source_without_library), SPELLBOUND_KERNELS="")
    assert line_of("kernels", outcome.stdout).split()[:3] == ["!", "kernels", "torch"]
    assert "compiler" in outcome.stdout


def test_compiled_kernels_that_are_forced_and_absent_are_broken(source_without_library: Path) -> None:
    outcome = consult(PYTHONPATH=str(source_without_library), SPELLBOUND_KERNELS="cpp")
    assert outcome.returncode == 1
    assert line_of("kernels", outcome.stdout).startswith("✗")
    assert "make install" in outcome.stdout


def test_a_gpu_without_triton_is_told() -> None:
    code = (
        "import sys, torch; sys.modules['triton'] = None; torch.cuda.is_available = lambda: True\n"
        "from spellbound.cli.doctor import check_kernels\n"
        "_, finding = check_kernels()\n"
        "print(finding.subject, finding.status, finding.remedy)"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert outcome.stdout.startswith("cuda kernels warn no Triton kernels")
    assert "pip install triton" in outcome.stdout


@pytest.mark.parametrize(
    ("forced", "detail"),
    [
        ("native", "native (SPELLBOUND_BF16=native)"),
        ("convert", "converted to float32 layer by layer: SPELLBOUND_BF16=convert"),
    ],
)
def test_how_bf16_weights_are_multiplied_is_said(
    forced: str, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPELLBOUND_BF16", forced)
    (finding,) = findings_of("bf16 weights")
    assert (finding.status, finding.detail) == ("ok", detail)


def test_an_unknown_way_with_bf16_weights_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPELLBOUND_BF16", "fast")
    finding = next(finding for finding in examine() if finding.subject == "bf16 weights")
    assert finding.status == "fail"
    assert finding.detail == "SPELLBOUND_BF16 is 'fast'; set it to native or convert, or unset it"


def test_a_missing_model_is_broken(tmp_path: Path) -> None:
    outcome = consult(SPELLBOUND_MODELS=str(tmp_path))
    assert outcome.returncode == 1
    assert line_of("model", outcome.stdout).startswith("✗")
    assert "SPELLBOUND_MODELS" in outcome.stdout


@pytest.fixture
def nano(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folder where the doctor looks for the bundled model."""
    monkeypatch.setenv("SPELLBOUND_MODELS", str(tmp_path))
    folder = tmp_path / "nano"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("config", "weights"),
    [("{}", None), ("{}", b"cut sho"), ("not json", None)],
    ids=["no weights", "weights cut short", "config is not JSON"],
)
def test_a_model_that_is_not_whole_is_broken(nano: Path, config: str, weights: bytes | None) -> None:
    (nano / "config.json").write_text(config, encoding="utf-8")
    if weights is not None:
        (nano / "model.safetensors").write_bytes(weights)
    with pytest.raises(ModelError, match=re.escape(str(nano))):
        findings_of("model")


def test_a_config_that_is_a_list_is_broken(nano: Path) -> None:
    (nano / "config.json").write_text("[1]", encoding="utf-8")
    save_file({"a": torch.zeros(2)}, nano / "model.safetensors")
    with pytest.raises(ModelError, match=r"config\.json cannot be read: it holds no settings"):
        findings_of("model")


def test_a_model_is_summed_up(nano: Path) -> None:
    (nano / "config.json").write_text('{"num_hidden_layers": 6, "vocab_size": 8192}', encoding="utf-8")
    save_file({"a": torch.zeros(1000, 1500)}, nano / "model.safetensors")
    (finding,) = findings_of("model")
    assert finding.status == "ok"
    assert "1.5 M parameters, 6 MB (6 layers, 8192 tokens)" in finding.detail
