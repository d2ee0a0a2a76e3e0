"""Finds, loads and calls the compiled kernels, which are built with the package when a compiler is there."""

import ctypes
import functools
import importlib.machinery
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spellbound.errors import EnvironmentFault, InputError

INSTRUCTION_SETS = ("avx512", "avx2", "portable")  # best first
REBUILD = "install a C++17 compiler (Debian: apt-get install g++), then run: touch setup.py && make install"
NOT_BUILT = f"the C++ kernels were not built; {REBUILD}"
_NO_MEMORY = (
    "the C++ kernels found no memory for their work space; read less at once, or set SPELLBOUND_KERNELS=torch"
)
_ENTRIES = [
    "scan_forward",
    "scan_backward",
    "conv_forward",
    "conv_backward",
    "norm",
    "swiglu",
    "token_step",
    "attend_rows",
]
POINTER, LONG, INT, FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_float


def structure(*fields: tuple[str, object]) -> type[ctypes.Structure]:
    """Mirror a struct of ``csrc/kernels.cpp``: each field names several members of one type, in order."""
    members = [(name, kind) for names, kind in fields for name in names.split()]
    return type("Arguments", (ctypes.Structure,), {"_fields_": members})


@functools.cache
def load_library() -> ctypes.CDLL | None:
    """Return the compiled library, or None where the package was built without a compiler."""
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        path = Path(__file__).parent.with_name(f"_kernels{suffix}")
        if path.exists():
            try:
                library = ctypes.CDLL(str(path))
            except OSError as error:
                raise EnvironmentFault(f"the C++ kernels do not load ({error}); {REBUILD}") from error
            library.spellbound_lanes.argtypes = [ctypes.c_char_p]
            head: list[Any] = [ctypes.c_char_p, INT, INT, POINTER]
            for entry in _ENTRIES:
                getattr(library, f"spellbound_{entry}").argtypes = [*head, LONG, POINTER]
            library.spellbound_multiply.argtypes = [*head, LONG, LONG, *[POINTER] * 4]
            return library
    return None


@functools.cache
def best_instruction_set() -> str | None:
    """Name the widest instruction set that both the library and this processor have."""
    return next((name for name in INSTRUCTION_SETS if lanes(name)), None)


@functools.cache
def lanes(instruction_set: str) -> int:
    """Floats in one vector of the instruction set, or 0 where this library or processor lacks it."""
    library = load_library()
    return library.spellbound_lanes(instruction_set.encode()) if library else 0


@functools.cache
def constant(name: str) -> int:
    """A number the kernels were compiled with: tile, rows, keys or max_taps."""
    return int(getattr(_library(), f"spellbound_{name}")())


@functools.cache
def thread_pool() -> int | None:
    """Address of GOMP_parallel in the OpenMP runtime torch runs on: two pools would fight over the cores."""
    if not sys.platform.startswith("linux"):
        return None
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*")):
        pool = getattr(ctypes.CDLL(str(path)), "GOMP_parallel", None)
        if pool is not None:
            return ctypes.cast(pool, ctypes.c_void_p).value
    return None


def call(entry: str, instruction_set: str | None, half: bool, *arguments: object) -> None:
    """Run an entry of the library with as many threads as torch uses.

    Raises:
        EnvironmentFault: the kernels were not built.
        InputError: this library or processor lacks the instruction set.
        MemoryError: no memory for the work space.
    """
    library, name = _library(), instruction_set or best_instruction_set()
    if name is None or not lanes(name):
        raise InputError(f"instruction set {name!r} is not there; this library and processor lack it")
    function = getattr(library, f"spellbound_{entry}")
    if function(name.encode(), half, torch.get_num_threads(), thread_pool(), *arguments):
        raise MemoryError(_NO_MEMORY)


def address(tensor: Tensor | None) -> int | None:
    """Return where the tensor's first number lies; None for None."""
    return None if tensor is None else tensor.data_ptr()


def in_rows(tensor: Tensor) -> Tensor:
    """Return ``tensor`` (..., C), copied only where the numbers of a row are not neighbours."""
    return tensor if tensor.stride(-1) == 1 or tensor.shape[-1] == 1 else tensor.contiguous()


def _library() -> ctypes.CDLL:
    library = load_library()
    if library is None:
        raise EnvironmentFault(NOT_BUILT)
    return library
