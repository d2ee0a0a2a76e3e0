"""One product an expert for tokens sorted by expert, in one launch where torch can.

torch's grouped product takes the experts' ends from the device, so the host never waits to learn how many
tokens each expert got. It is fast for bfloat16 from compute capability 9.0 (torch 2.13); elsewhere torch
itself loops and waits, so there the loop is ours, for every dtype and shape.

X tokens, H inputs, F outputs, E experts.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import grouped_mm, linear

ALIGNMENT = 16  # bytes; of every row and every tensor the grouped product reads or writes
OLDEST = (9, 0)  # compute capability


def grouped_linear(x_XH: Tensor, weight_EFH: Tensor, counts_E: Tensor) -> Tensor:
    """Multiply each row of x with its expert's weight: ``y = x W^T``, shape (X, F).

    The first ``counts_E[0]`` rows are expert 0's, and so on; the counts, of an integer dtype and on the
    device of x, add up to X. Differentiable in x and weight. Heeds autocast as ``linear`` does.
    """
    if x_XH.device.type == "cuda" and torch.is_autocast_enabled("cuda"):
        kind = torch.get_autocast_dtype("cuda")
        x_XH, weight_EFH = x_XH.to(kind), weight_EFH.to(kind)
    if fast(x_XH, weight_EFH):
        ends_E = counts_E.cumsum(0, dtype=torch.int32)
        y_XF: Tensor = GroupedLinear.apply(x_XH, weight_EFH, ends_E)  # type: ignore[no-untyped-call]
        return y_XF
    parts = x_XH.split(counts_E.tolist())
    return torch.cat([linear(part, weight_FH) for part, weight_FH in zip(parts, weight_EFH, strict=True)])


def fast(x_XH: Tensor, weight_EFH: Tensor) -> bool:
    """Whether torch has a grouped product for these that does not make the host wait."""
    if x_XH.device.type != "cuda" or torch.version.hip is not None or not len(x_XH):
        return False
    aligned = all(width * weight_EFH.element_size() % ALIGNMENT == 0 for width in weight_EFH.shape[1:])
    same = x_XH.dtype == weight_EFH.dtype == torch.bfloat16
    return same and aligned and torch.cuda.get_device_capability(x_XH.device) >= OLDEST


class GroupedLinear(torch.autograd.Function):
    """:func:`grouped_linear` through torch's grouped product, given where each expert's rows end (int32).

    With its own backward: torch's refuses the gradients that autograd likes to make, such as an expanded
    one of a sum.
    """

    @staticmethod
    def forward(ctx: Any, x_XH: Tensor, weight_EFH: Tensor, ends_E: Tensor) -> Tensor:
        """Return (X, F)."""
        x_XH, weight_EFH = _placed(x_XH), _placed(weight_EFH)
        # A frozen weight, as under an adapter, has no gradient that would need x.
        ctx.save_for_backward(x_XH if ctx.needs_input_grad[1] else None, weight_EFH, ends_E)
        return grouped_mm(x_XH, weight_EFH.mT, offs=ends_E)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x and weight, each one grouped product, and only where one is wanted."""
        x_XH, weight_EFH, ends_E = ctx.saved_tensors
        dy_XF = _placed(gradients[0])
        dx_XH = grouped_mm(dy_XF, weight_EFH, offs=ends_E) if ctx.needs_input_grad[0] else None
        dweight_EFH = grouped_mm(dy_XF.T, x_XH, offs=ends_E) if ctx.needs_input_grad[1] else None
        return dx_XH, dweight_EFH, None


def _placed(tensor: Tensor) -> Tensor:
    """Lay rows one behind another, from an aligned address; a single row gets a sensible stride too."""
    tensor = tensor.contiguous().view(-1).view(tensor.shape)
    return tensor if tensor.data_ptr() % ALIGNMENT == 0 else tensor.clone()
