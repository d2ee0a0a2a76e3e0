"""How a training process on a CPU takes memory: what was freed is kept, and found again.

Fetching freed memory from the kernel anew would cost a third of every step, so glibc keeps it. But torch asks
for it in the one way in which glibc seldom puts a block where an equal one was, and holes grow: to 2 GiB
beside 2.5 in use. heap.cpp asks in another way. It has to be compiled against the headers of the torch that
is installed, which takes a second; without a compiler, training goes on with the holes.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Names of glibc's malloc parameters (malloc.h)."""
SOURCE = Path(__file__).with_name("heap.cpp")
_FLAGS = ("-std=c++20", "-O2", "-shared", "-fPIC")
_REMEDY = "training takes up to 1.7 times the memory; install g++, or set CXX"
_PATIENCE = 120.0  # seconds for the compiler, which needs one or two


@dataclass(frozen=True, kw_only=True)
class HeapReport:
    """Whether freed memory is found again, the reason for people, and what they can do if it is not."""

    reuses: bool
    detail: str
    remedy: str = ""


def use_heap() -> HeapReport:
    """Keep freed memory in this process from now on, and find it again where that can be had.

    Tensors that are there stay where they are. To be called again at no cost.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(M_TOP_PAD, 64 << 20)
    return _installed()


@functools.cache
def _installed() -> HeapReport:
    if platform.libc_ver()[0] != "glibc":
        return HeapReport(reuses=False, detail="only glibc's malloc needs it")
    try:
        library = ctypes.CDLL(str(_compiled()))
    except (OSError, subprocess.SubprocessError) as error:
        return HeapReport(reuses=False, detail=_reason(error), remedy=_REMEDY)
    library.spellbound_use_heap()
    return HeapReport(reuses=True, detail=f"compiled for torch {torch.__version__}")


def _compiled() -> Path:
    """The library for this torch; compiled if it is not there yet.

    Raises OSError or SubprocessError if it cannot be.
    """
    compiler = _compiler()
    digest = sha256(SOURCE.read_bytes())
    for part in (torch.__version__, torch.__file__, platform.machine(), *compiler, *_FLAGS):
        digest.update(part.encode() + b"\0")
    folder = _cache_folder()
    library = folder / f"heap-{digest.hexdigest()[:16]}.so"
    if library.is_file():
        return library
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    home = Path(torch.__file__).parent
    with tempfile.TemporaryDirectory(dir=folder) as draft:
        made = Path(draft) / library.name
        abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
        places = [f"-I{home / 'include'}", f"-L{home / 'lib'}", "-lc10"]
        command = [*compiler, *_FLAGS, abi, str(SOURCE), "-o", str(made), *places]
        subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE)  # noqa: S603
        made.replace(library)  # several processes may do this at once
    return library


def _compiler() -> list[str]:
    """The user's C++ compiler; OSError if there is none."""
    given = shlex.split(os.environ.get("CXX", ""))
    if given:
        return given
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    raise OSError("there is no C++ compiler")


def _cache_folder() -> Path:
    """Where it is kept from one run to the next (XDG Base Directory Specification)."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(given) if given else Path.home() / ".cache"
    return home / "spellbound"


def _reason(error: OSError | subprocess.SubprocessError) -> str:
    """Say in one line why it could not be compiled."""
    said = str(error)
    if isinstance(error, subprocess.CalledProcessError):
        with suppress(IndexError):
            lines = error.stderr.decode(errors="replace").splitlines()
            said = next((line for line in lines if "error" in line), lines[-1])
    return f"heap.cpp could not be compiled: {said.strip()}"
