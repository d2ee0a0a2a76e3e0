# A kernel's arguments have the types Triton gives them at the launch.
# mypy: disable-error-code="import-not-found,import-untyped,no-untyped-def,untyped-decorator"
"""Functions of one number that the kernels share. In powers of two: that is what the hardware has.

Nothing here overflows, for any input.
"""

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def softplus(v):
    """log(1 + exp(v)) to 2e-7 of its value, also far below zero where log2(1 + e) would be 0."""
    e = tl.exp2(-tl.abs(v) * LOG2E)
    p = 0.0195425274 - 0.00317605705 * e  # log1p(e) / e on 0..1, Chebyshev, 5e-9
    p = -0.0563736132 + p * e
    p = 0.105436238 + p * e
    p = -0.152696671 + p * e
    p = 0.196632743 + p * e
    p = -0.249516163 + p * e
    p = 0.333297105 + p * e
    p = -0.499998926 + p * e
    p = 0.999999995 + p * e
    return tl.maximum(v, 0.0) + p * e


@triton.jit
def sigmoid(v):
    """1 / (1 + exp(-v))."""
    e = tl.exp2(-tl.abs(v) * LOG2E)
    return tl.where(v >= 0, 1.0, e) / (1.0 + e)


@triton.jit
def silu(v):
    """v sigmoid(v)."""
    return v * sigmoid(v)


@triton.jit
def silu_slope(v, sigmoid_v):
    """Derivative of silu at v."""
    return sigmoid_v * (1.0 + v * (1.0 - sigmoid_v))
