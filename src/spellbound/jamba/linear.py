"""Linear layers that read bfloat16 weights at a good pace on every processor.

One without bfloat16 arithmetic multiplies them several times slower than float32 of the same size, because
each product converts anew. There a block of the weight is converted once for all rows. I inputs, O outputs.
"""

import functools
import os
import platform
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor, nn

from spellbound.errors import InputError
from spellbound.jamba.ops import kind_for
from spellbound.jamba.ops.cpp.step import linear_row_cpp

_FEW_ROWS = 4  # up to here reading the weight is all the work, and converting it would double that
_LARGE = 1 << 18  # numbers of a weight from which our own matrix-vector product is the faster one
_BLOCK_ELEMENTS = 1 << 22  # of a weight, in float32 at one time: 16 MiB
_PLACES = 4  # of the number of rows of a bfloat16 product: eight numbers from one power of two to the next
_PLAIN = (Tensor, nn.Parameter)  # a subclass may be sharded or quantised, whatever its dtype says


class Linear(nn.Linear):
    """``nn.Linear``, its product chosen by :func:`linear`."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the product, its last dimension O instead of I."""
        return linear(x, self.weight, self.bias)


def leave_to_quantisers(model: nn.Module) -> None:
    """Make every :class:`Linear` torch's own: bitsandbytes' integration replaces that very type alone."""
    for module in model.modules():
        if type(module) is Linear:
            cast(nn.Module, module).__class__ = nn.Linear


def linear(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias`` as ``torch.nn.functional.linear`` does, faster where that is slow.

    Special are, on the CPU without gradients, one row times a large weight, and bfloat16; sums are float32,
    the result is rounded once.
    """
    if (
        x.device.type != "cpu"
        or x.dtype != weight_OI.dtype
        or type(weight_OI) not in _PLAIN
        or torch.is_grad_enabled()
        or torch.is_autocast_enabled("cpu")
    ):
        return F.linear(x, weight_OI, bias_O)
    rows = x.numel() // x.shape[-1] if x.shape[-1] else 0
    if rows == 1 and weight_OI.numel() >= _LARGE and kind_for(x) == "cpp" and _fit(x, weight_OI, bias_O):
        return linear_row_cpp(x, weight_OI, bias_O)
    if x.dtype != torch.bfloat16 or rows <= _FEW_ROWS:
        return F.linear(x, weight_OI, bias_O)
    if describe_bf16().native:
        return F.linear(filled(x), weight_OI, bias_O)[..., : x.shape[-2], :]
    return _converted(x, weight_OI, bias_O)


def filled(x: Tensor) -> Tensor:
    """Return ``x`` (..., rows, numbers), with rows of zeros behind where each number of rows costs dearly.

    Where the processor multiplies bfloat16 itself, oneDNN writes code for each shape that it meets, in two
    milliseconds, and keeps it. So that there are few shapes, up to an eighth more rows are read there;
    elsewhere any number will do.
    """
    half = x.dtype == torch.bfloat16 or torch.is_autocast_enabled("cpu")
    if not (half and x.device.type == "cpu" and describe_bf16().native):
        return x
    rows = x.shape[-2]
    short = -rows % (1 << max(0, rows.bit_length() - _PLACES))
    return F.pad(x, (0, 0, 0, short)) if short else x


def _fit(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> bool:
    """Whether our own product, which reads raw memory, may read these; of others torch says what is wrong."""
    shapes = x.shape[-1:] == weight_OI.shape[1:] and (bias_O is None or bias_O.shape == weight_OI.shape[:1])
    return shapes and all(
        each.dtype == x.dtype and each.device == x.device and each.is_contiguous()
        for each in (weight_OI, bias_O)
        if each is not None
    )


def _converted(x: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    """Multiply in float32, a block of outputs at a time, so that no whole weight is ever held twice."""
    outputs, inputs = weight_OI.shape
    wide, out = x.float(), x.new_empty(*x.shape[:-1], outputs)
    step = max(1, _BLOCK_ELEMENTS // max(1, inputs))
    for begin in range(0, outputs, step):
        rows = slice(begin, begin + step)
        bias = None if bias_O is None else bias_O[rows].float()
        out[..., rows] = F.linear(wide, weight_OI[rows].float(), bias)
    return out


@dataclass(frozen=True, kw_only=True)
class Bf16Report:
    """How products of bfloat16 weights are computed on this processor: ``native`` or converted; ``detail``
    says it for people, with the reason."""

    native: bool
    detail: str


def describe_bf16() -> Bf16Report:
    """Say what becomes of bfloat16 weights on the CPU. ``SPELLBOUND_BF16=native|convert`` forces one.

    Raises:
        InputError: SPELLBOUND_BF16 is something else.
    """
    return _choose(os.environ.get("SPELLBOUND_BF16", ""))


@functools.cache
def _choose(forced: str) -> Bf16Report:
    if forced not in ("", "native", "convert"):
        raise InputError(f"SPELLBOUND_BF16 is {forced!r}; set it to native or convert, or unset it")
    feature = _bf16_feature()
    native = forced == "native" if forced else feature is not None
    reason = f"SPELLBOUND_BF16={forced}" if forced else feature or "this processor has no bf16 arithmetic"
    return Bf16Report(
        native=native,
        detail=f"native ({reason})" if native else f"converted to float32 layer by layer: {reason}",
    )


def _bf16_feature() -> str | None:
    """Name what multiplies bfloat16 here, if anything does."""
    if torch.cpu._is_amx_tile_supported():
        return "amx"
    if torch.cpu._is_avx512_bf16_supported():
        return "avx512_bf16"
    # Not asked on x86, where it is also true of AVX-512 that only imitates bfloat16, 2.5 times slower.
    arm = platform.machine() in ("aarch64", "arm64")
    if arm and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "arm bf16"
    return None
