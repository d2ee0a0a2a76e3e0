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
_PATIENCE = 120.0  # seconds for the compiler, which needs one or two
_WRITTEN_BY_OTHERS = 0o022


@dataclass(frozen=True, kw_only=True)
class HeapReport:
    """Whether freed memory is found again, the reason for people, and what they can do if it is not."""

    reuses: bool
    detail: str
    remedy: str = ""

    @property
    def note(self) -> str:
        """One line for a run that takes more memory than it need take; else nothing."""
        return f"memory: {self.detail}; {self.remedy}" if self.remedy else ""


class _Lacking(Exception):
    """What is in the way, and what to do."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.remedy = remedy


@functools.cache
def use_heap() -> HeapReport:
    """Keep freed memory in this process from now on, and find it again where that can be had.

    Tensors that are there stay where they are. To be called again at no cost. THP_MEM_ALLOC_ENABLE, which is
    of torch's own allocator, has no effect any more.
    """
    if platform.libc_ver()[0] != "glibc":
        return HeapReport(reuses=False, detail="as the system gives it: only glibc needs help")
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(M_MMAP_THRESHOLD, 1 << 30)
    mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
    mallopt(M_TOP_PAD, 64 << 20)
    try:
        _loaded().spellbound_use_heap()
    except _Lacking as lack:
        remedy = f"training takes up to 1.5 times as much; {lack.remedy}"
        return HeapReport(reuses=False, detail=str(lack), remedy=remedy)
    return HeapReport(reuses=True, detail=f"found again: heap.cpp is compiled for torch {torch.__version__}")


def _loaded() -> ctypes.CDLL:
    """The library for this torch; compiled if it is not there yet, or is damaged or somebody else's."""
    digest = sha256(SOURCE.read_bytes())
    for part in (torch.__version__, platform.machine(), *platform.libc_ver(), *_FLAGS):
        digest.update(part.encode() + b"\0")
    file = _own_folder() / f"heap-{digest.hexdigest()[:16]}.so"
    for again in (False, True):
        if again or not _is_ours(file):
            _compile(file)
        with suppress(OSError):
            library = ctypes.CDLL(str(file))
            if hasattr(library, "spellbound_use_heap"):
                return library
    raise _Lacking(f"{file} cannot be loaded", "set CXX to another compiler")


def _compile(file: Path) -> None:
    compiler, home = _compiler(), Path(torch.__file__).parent
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    places = [f"-I{home / 'include'}", f"-L{home / 'lib'}", "-lc10"]
    try:
        with tempfile.TemporaryDirectory(dir=file.parent) as draft:
            made = Path(draft) / file.name
            command = [*compiler, *_FLAGS, abi, str(SOURCE), "-o", str(made), *places]
            subprocess.run(command, check=True, capture_output=True, timeout=_PATIENCE)  # noqa: S603
            made.chmod(0o700)
            with made.open("rb") as whole:
                os.fsync(whole.fileno())  # a file of which half is there would end the process
            made.replace(file)  # several processes may do this at once
    except (OSError, subprocess.SubprocessError) as error:
        raise _Lacking(
            f"heap.cpp could not be compiled: {_said(error)}", "install g++ 10 or newer, or set CXX"
        ) from error


def _compiler() -> list[str]:
    """The user's C++ compiler."""
    try:
        given = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise _Lacking(f"CXX is {os.environ['CXX']!r}: {error}", "set it to a command") from error
    if given:
        return given
    for name in ("c++", "g++", "clang++"):
        if shutil.which(name):
            return [name]
    raise _Lacking("there is no C++ compiler for heap.cpp", "install g++ 10 or newer, or set CXX")


def _own_folder() -> Path:
    """Where it is kept from one run to the next (XDG Base Directory Specification).

    What is there is run as this user, so nobody else may be able to write there.
    """
    remedy = "set XDG_CACHE_HOME to a folder of yours"
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        folder = (given if given.is_absolute() else Path.home() / ".cache") / "spellbound"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        alone = _is_ours(folder)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        raise _Lacking(f"heap.cpp has no place to be compiled to: {error}", remedy) from error
    if not alone:
        raise _Lacking(f"{folder} can be written by others", f"{remedy}, or run: chmod go-w {folder}")
    return folder


def _is_ours(path: Path) -> bool:
    """Whether it is there, and this user alone can write to it."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return found.st_uid == os.geteuid() and not found.st_mode & _WRITTEN_BY_OTHERS


def _said(error: OSError | subprocess.SubprocessError) -> str:
    """What the compiler said, in one line."""
    lines: list[str] = []
    if isinstance(error, subprocess.CalledProcessError):
        lines = error.stderr.decode(errors="replace").strip().splitlines()
    return next((line for line in lines if "error" in line), lines[-1] if lines else str(error)).strip()
