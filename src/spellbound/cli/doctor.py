"""`spellbound doctor`: what this machine has, what it lacks, and the command that mends it."""

import json
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import typer
from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table
from rich.text import Text

from spellbound.errors import ModelError, SpellboundError

Status = Literal["ok", "warn", "fail"]

_MODEL = "nano"
_SCARCE_GIB = 1.0
_GIB = 2**30
_MARKS = {"ok": "[green]✓[/]", "warn": "[yellow]![/]", "fail": "[bold red]✗[/]"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing looked at. ``remedy`` is what to do about a warning or a failure."""

    subject: str
    detail: str
    status: Status = "ok"
    remedy: str = ""


def doctor() -> None:
    """Say what this machine has for Spellbound, and how to mend what it lacks."""
    findings = examine()
    console = Console()
    console.print(_table(findings))
    broken = sum(finding.status == "fail" for finding in findings)
    if broken:
        console.print(f"[bold red]{broken} broken:[/] do what the arrows say, then ask the doctor again.")
        raise typer.Exit(1)
    console.print("Everything that is needed works.")


def examine() -> list[Finding]:
    """Run every check. One that cannot even look, because something is missing, is a failure itself."""
    findings: list[Finding] = []
    for subject, check in CHECKS.items():
        try:
            findings.extend(check())
        except SpellboundError as error:
            findings.append(Finding(subject=subject, status="fail", detail=str(error)))
        except ImportError as error:
            detail = f"could not be looked at: {error}"
            findings.append(
                Finding(subject=subject, status="fail", detail=detail, remedy="run: make install")
            )
    return findings


def check_python() -> Iterator[Finding]:
    """Name the interpreter; the package's own metadata refuses one that is too old."""
    yield Finding(
        subject="python", detail=f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    )


def check_packages() -> Iterator[Finding]:
    """Compare what is installed with what the base needs."""
    yield Finding(subject="spellbound", detail=metadata.version("spellbound"))
    good: list[str] = []
    for requirement in _requirements(extra=""):
        version = _installed(requirement.name)
        if version is not None and requirement.specifier.contains(version, prereleases=True):
            good.append(f"{requirement.name} {version}")
            continue
        detail = (
            "is not installed" if version is None else f"is {version}, and {requirement.specifier} is needed"
        )
        yield Finding(subject=requirement.name, status="fail", detail=detail, remedy="run: make install")
    yield Finding(subject="packages", detail=", ".join(good))


def check_extras() -> Iterator[Finding]:
    """Say which extras are there; none is ever needed for the base."""
    there: list[str] = []
    absent: list[str] = []
    for extra in sorted(metadata.metadata("spellbound").get_all("Provides-Extra") or []):
        needs = [each for each in _requirements(extra) if each.name != "spellbound"]
        if needs:
            complete = all(_installed(requirement.name) for requirement in needs)
            (there if complete else absent).append(extra)
    detail = f"installed: {', '.join(there) or 'none'}; not installed: {', '.join(absent) or 'none'}"
    yield Finding(subject="extras", detail=detail)


def check_processor() -> Iterator[Finding]:
    """Name the processor, its cores and the widest vectors that the kernels can use."""
    import torch

    neon = platform.machine() in ("aarch64", "arm64")
    vectors = "NEON" if neon else torch.backends.cpu.get_cpu_capability()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding(subject="processor", detail=f"{_processor_name()}, {usable} cores, {vectors}")


def check_accelerator() -> Iterator[Finding]:
    """Name the GPUs that torch can use."""
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    yield Finding(subject="accelerator", detail=", ".join(names) or "none: the model runs on the processor")


def check_kernels() -> Iterator[Finding]:
    """Say which kernels are active and why; ones that were forced and are absent raise."""
    import torch

    yield _kernels("cpu", "cpp")
    if torch.cuda.is_available():
        yield _kernels("cuda", "triton")


def check_bf16() -> Iterator[Finding]:
    """Say how bfloat16 weights are multiplied on the processor."""
    from spellbound.jamba.linear import describe_bf16

    yield Finding(subject="bf16 weights", detail=describe_bf16().detail)


def check_training() -> Iterator[Finding]:
    """Say whether training on the processor finds freed memory again, where it would be trained on."""
    import torch

    if _installed("accelerate") is None or torch.cuda.is_available():
        return
    from spellbound.train.heap import use_heap

    report = use_heap()
    status: Status = "warn" if report.remedy else "ok"
    yield Finding(subject="training memory", status=status, detail=report.detail, remedy=report.remedy)


def check_model() -> Iterator[Finding]:
    """Find the bundled model and sum up its config; a folder that is not whole raises."""
    from spellbound.engine.loading import weight_count, weight_files
    from spellbound.story import find_model

    folder = find_model(_MODEL)
    megabytes = sum(file.stat().st_size for file in weight_files(folder)) / 1e6
    config = _config(folder / "config.json")
    shape = ", ".join(
        f"{config[key]} {name}"
        for key, name in (
            ("num_hidden_layers", "layers"),
            ("num_experts", "experts"),
            ("vocab_size", "tokens"),
        )
        if key in config
    )
    detail = (
        f"{_MODEL} in {folder}: {weight_count(folder) / 1e6:.1f} M parameters, {megabytes:.0f} MB ({shape})"
    )
    yield Finding(subject="model", detail=detail)


def check_memory() -> Iterator[Finding]:
    """Say how much memory there is; a larger model is measured against it when it is loaded."""
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total / _GIB, memory.available / _GIB
    scarce = free < _SCARCE_GIB
    yield Finding(
        subject="memory",
        status="warn" if scarce else "ok",
        detail=f"{free:.1f} of {total:.1f} GiB available",
        remedy=f"less than {_SCARCE_GIB:.0f} GiB is tight even for the bundled model: close something"
        if scarce
        else "",
    )


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "python": check_python,
    "packages": check_packages,
    "extras": check_extras,
    "processor": check_processor,
    "accelerator": check_accelerator,
    "kernels": check_kernels,
    "bf16 weights": check_bf16,
    "training memory": check_training,
    "model": check_model,
    "memory": check_memory,
}


def _kernels(device: str, fastest: str) -> Finding:
    from spellbound.jamba.ops import describe

    report = describe(device)
    fast = report.name == fastest
    subject = "kernels" if device == "cpu" else f"{device} kernels"
    detail = f"{report.name} ({report.detail}): {report.reason if fast else f'slower than {fastest}'}"
    forced = "unset SPELLBOUND_KERNELS" if os.environ.get("SPELLBOUND_KERNELS") else report.reason
    remedy = "" if fast else forced
    return Finding(subject=subject, status="ok" if fast else "warn", detail=detail, remedy=remedy)


def _requirements(extra: str) -> list[Requirement]:
    """Return what an extra adds to the base, or, for the empty name, the base itself."""
    declared = [Requirement(line) for line in metadata.requires("spellbound") or []]
    here = [each for each in declared if each.marker is None or each.marker.evaluate({"extra": extra})]
    if not extra:
        return here
    return [each for each in here if each.marker is not None and not each.marker.evaluate({"extra": ""})]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _config(file: Path) -> dict[str, object]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it holds no settings")
        return config
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{file} cannot be read: {error}; bring it back with: git checkout -- models"
        ) from error


def _processor_name() -> str:
    """Return the model name where the system tells it: `platform.processor` is empty on Linux."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    return platform.processor() or platform.machine()


def _table(findings: list[Finding]) -> Table:
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        text = Text(finding.detail)
        if finding.remedy:
            text.append(f"\n→ {finding.remedy}", style="bold")
        table.add_row(_MARKS[finding.status], Text(finding.subject), text)
    return table
