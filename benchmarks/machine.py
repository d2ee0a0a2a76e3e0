"""What this machine is, in words that say nothing about whose it is."""

import importlib.metadata
import os
import platform
import re
from datetime import date
from pathlib import Path

import psutil
import torch

from benchmarks.lines import Machine

PACKAGES = (
    "torch",
    "transformers",
    "mambapy",
    "llama-cpp-python",
    "gguf",
    "mamba-ssm",
    "causal-conv1d",
    "triton",
)


def describe(device: str, command: str) -> Machine:
    """Describe the machine as ``device`` ("cpu" or "cuda") shows it."""
    cores = os.cpu_count() or 1
    return Machine(
        hardware=_slug(device, cores),
        processor=torch.cuda.get_device_name() if device == "cuda" else _processor(),
        instructions=_instructions(),
        cores=cores,
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        system=f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        versions={name: found for name in PACKAGES if (found := version_of(name))},
        date=date.today().isoformat(),
        command=command,
    )


def version_of(package: str) -> str:
    """Return the installed version, or nothing where the package is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def named(*packages: str) -> str:
    """Return packages with their versions, as a line of results names them."""
    return " + ".join(f"{package} {version_of(package)}" for package in packages)


def _slug(device: str, cores: int) -> str:
    if device == "cpu":
        return f"cpu-{cores}core-{_instructions()}"
    card = torch.cuda.get_device_name().lower().removeprefix("nvidia ")
    return "cuda-" + re.sub(r"[^a-z0-9]+", "-", card).strip("-")


def _instructions() -> str:
    if platform.machine() in ("aarch64", "arm64"):
        return "neon"
    level = torch.backends.cpu.get_cpu_capability().lower()  # AVX512, AVX2, DEFAULT
    return level if level.startswith("avx") else "portable"


def _processor() -> str:
    try:
        names = re.findall(
            r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE
        )
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
