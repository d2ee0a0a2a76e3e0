"""What the machine needs for the unavoidable alone: the products, the bytes. Nothing can be faster.

Each floor runs the way the machine does it best: weights and results in place, nothing allocated.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from benchmarks.measure import Settings, Timing, timed
from benchmarks.products import Product

READ_BYTES = 1 << 30  # far beyond any cache


def products_work(products: Sequence[Product], *, backward: bool = False) -> Callable[[], None]:
    """Return a function that computes the products, each with an own weight; with gradients if asked."""
    weights = [torch.randn(product.columns, product.inner) * 0.02 for product in products]
    inputs = _buffers((product.rows, product.inner) for product in products)
    outputs = _buffers((product.rows, product.columns) for product in products)
    input_gradients = (
        {shape: torch.empty_like(buffer) for shape, buffer in inputs.items()} if backward else {}
    )
    weight_gradients = [torch.empty_like(weight) for weight in weights if backward]

    def forward() -> None:
        for (rows, inner, columns), weight in zip(products, weights, strict=True):
            torch.mm(inputs[rows, inner], weight.t(), out=outputs[rows, columns])

    def both() -> None:
        forward()
        for (rows, inner, columns), weight, gradient in zip(products, weights, weight_gradients, strict=True):
            torch.mm(outputs[rows, columns], weight, out=input_gradients[rows, inner])
            torch.mm(outputs[rows, columns].t(), inputs[rows, inner], out=gradient)

    return both if backward else forward


def vectors_work(products: Sequence[Product]) -> Callable[[], None]:
    """Return a function that multiplies each weight with one vector: a decoded token's products."""
    weights = [torch.randn(product.columns, product.inner) * 0.02 for product in products]
    inputs = {product.inner: torch.randn(product.inner) for product in products}
    outputs = {product.columns: torch.empty(product.columns) for product in products}

    def work() -> None:
        for weight in weights:
            columns, inner = weight.shape
            torch.mv(weight, inputs[inner], out=outputs[columns])

    return work


def read_bandwidth(settings: Settings) -> tuple[float, Timing]:
    """Return bytes read a second by a sum over more than any cache holds, and its timing."""
    numbers = torch.ones(READ_BYTES // 4, device=settings.device)
    timing = timed(settings, numbers.sum)
    return READ_BYTES / timing.median_s, timing


def copy_of(moved: int, settings: Settings) -> Timing:
    """Time a plain copy that moves ``moved`` bytes: half of them read, half written."""
    source = torch.zeros(max(1, moved // 2), dtype=torch.uint8, device=settings.device)
    target = torch.empty_like(source)
    return timed(settings, lambda: target.copy_(source))


def _buffers(shapes: Iterable[tuple[int, int]]) -> dict[tuple[int, int], Tensor]:
    return {shape: torch.randn(*shape) for shape in dict.fromkeys(shapes)}
