# mypy: disable-error-code="import-not-found,import-untyped"
"""The Triton kernels compiled for Hopper (sm_90), down to machine code, with no GPU.

What the interpreter allows and the compiler does not shows here, and so do registers that spill.
``test_triton.py`` runs this file.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from spellbound.jamba.ops.triton import conv, rows, scan, step

HOPPER = GPUTarget("cuda", 90, 32)
INTEGERS = {"T", "D", "X", "steps", "size", "segments", "share"}  # every other plain argument is a stride
UNALIGNED = {"T", "X", "steps", "segments"}
Pointers = dict[str, str | None]
BF16, FP32, BYTES = "*bf16", "*fp32", "*u8"


def spilled(kernel: Any, warps: int, pointers: Pointers, constants: dict[str, Any]) -> int:
    """Compile to machine code; return the bytes it writes to memory for want of registers."""
    signature, values, attributes = {}, {}, {}
    for place, name in enumerate(parameter.name for parameter in kernel.params):
        if name in constants or pointers.get(name, "") is None:
            signature[name], values[(place,)] = "constexpr", constants.get(name)
            continue
        signature[name] = pointers.get(name) or ("i32" if name in INTEGERS else "i64")
        if name not in UNALIGNED:
            attributes[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constexprs=values, attrs=attributes)
    binary = triton.compile(source, target=HOPPER, options={"num_warps": warps})
    assert binary.asm["cubin"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.ptx")
        path.write_text(binary.asm["ptx"])
        command = [triton.knobs.nvidia.ptxas.path, "-v", "-arch=sm_90a", str(path), "-o", os.devnull]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    stores = re.findall(r"(\d+) bytes spill stores", report)
    assert stores
    return sum(map(int, stores))


def each(names: str, kind: str | None) -> Pointers:
    """The same for several arguments; None for those that are left out."""
    return dict.fromkeys(names.split(), kind)


def shape(states: int, channels: int, **others: Any) -> dict[str, Any]:
    return {"N": states, **scan.blocks(states, channels)._asdict(), **others}


# As Jamba Mini's layers call them: a prompt, and a packed training step in each precision.
@pytest.mark.parametrize(
    ("dtype", "cut", "saved"), [(BF16, None, None), (BF16, FP32, FP32), (FP32, FP32, FP32)]
)
def test_scan_forward(dtype: str, cut: str | None, saved: str | None) -> None:
    pointers = each("x dt gate y", dtype) | each("A B C skip begin last", FP32) | each("ends decays", None)
    pointers |= {"cut": cut, "saved": saved}
    constants = shape(16, 1, TILE=scan.FORWARD_TILE, CHUNK=scan.CHUNK, SUMMARY=False)
    assert spilled(scan._scan_forward, scan.WARPS, pointers, constants) == 0


def test_scan_summary() -> None:
    pointers = each("x dt", BF16) | each("A B cut ends decays", FP32)
    pointers |= each("gate C skip begin y last saved", None)
    constants = shape(16, 1, TILE=scan.FORWARD_TILE, CHUNK=scan.CHUNK, SUMMARY=True)
    assert spilled(scan._scan_forward, scan.WARPS, pointers, constants) == 0


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_carry(reverse: bool) -> None:
    pointers = each("ends decays states", FP32) | each("begin", FP32 if reverse else None)
    assert spilled(scan._scan_carry, 4, pointers, {"REVERSE": reverse, "BLOCK": 256}) == 0


def test_scan_adjoint() -> None:
    pointers = each("dt gate dy", BF16) | each("A C cut ends decays", FP32)
    constants = shape(16, scan.BACKWARD_CHANNELS, TILE=scan.BACKWARD_TILE)
    assert spilled(scan._scan_adjoint, scan.WARPS, pointers, constants) == 0


@pytest.mark.parametrize(("dtype", "optional"), [(BF16, FP32), (FP32, None)])
def test_scan_backward(dtype: str, optional: str | None) -> None:
    pointers = each("x dt dy dx ddt", dtype) | each("gate dgate", dtype if optional else None)
    pointers |= each("A B C saved scratch dend dA dB dC", FP32) | each("skip cut dskip dh0", optional)
    channels = scan.BACKWARD_CHANNELS
    tiles = {"TILE": scan.BACKWARD_TILE, "DIN": channels, "WALK": scan.WALK, "CHUNK": scan.CHUNK}
    constants = shape(16, channels, **tiles)
    assert spilled(scan._scan_backward, scan.WARPS, pointers, constants) == 0


@pytest.mark.parametrize("optional", [BF16, None])
def test_conv(optional: str | None) -> None:
    pointers = each("x weight y dy dx", BF16) | each("bias window dwindow", optional)
    pointers |= each("starts", BYTES if optional else None) | each(
        "dweight dbias", FP32 if optional else None
    )
    constants = {"K": 4, "STEPS": conv.STEPS, "CHANNELS": conv.CHANNELS}
    for kernel in (conv._conv_forward, conv._conv_backward):
        assert spilled(kernel, conv.WARPS, pointers, constants) == 0


def test_conv_step() -> None:
    constants = {"K": 4, "CHANNELS": step.CONV_CHANNELS}
    assert spilled(step._conv_step, step.WARPS, each("x weight bias window y after", BF16), constants) == 0


def test_scan_step() -> None:
    pointers = each("x dt B C gate y", BF16) | each("A skip h after", FP32)
    constants = {"N": 16, "STATES": 16, "CHANNELS": step.SCAN_CHANNELS}
    assert spilled(step._scan_step, step.WARPS, pointers, constants) == 0


@pytest.mark.parametrize(("dtype", "size"), [(BF16, 4096), (FP32, 4096), (BF16, 16)])
def test_rms_norm(dtype: str, size: int) -> None:
    own, block = rows.norm_tile(size)
    constants = {"H": size, "EPS": 1e-6, "ROWS": own, "BLOCK": block}
    given = each("x weight y dy", dtype) | each("scales", FP32)
    assert spilled(rows._norm_forward, rows.WARPS, given, constants) == 0
    for optional in ("dx", "scales", ""):
        pointers = given | {"dx": dtype} | ({optional: None} if optional else {})
        assert spilled(rows._norm_backward, rows.WARPS, pointers, constants) == 0
    columns, own = rows.weight_tile(size)
    tile = {"H": size, "ROWS": own, "COLUMNS": columns}
    assert spilled(rows._norm_weight, rows.WARPS, given | {"dweight": FP32}, tile) == 0


@pytest.mark.parametrize("dtype", [BF16, FP32])
def test_swiglu(dtype: str) -> None:
    own, block = rows.swiglu_tile(14336)
    constants = {"H": 14336, "ROWS": own, "BLOCK": block}
    pointers = each("gate up y dy dgate dup", dtype)
    for kernel in (rows._swiglu_forward, rows._swiglu_backward):
        assert spilled(kernel, rows.WARPS, pointers, constants) == 0
