"""The same two operations by others; arguments as ours take them, converted to what each peer wants.

B batch, T time, D channels, N states, K convolution width.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv1d, silu, softplus

from benchmarks.machine import version_of
from benchmarks.peers import peer_module


def installed(package: str) -> bool:
    """Whether a package that is installed by hand is there."""
    return bool(version_of(package))


def mambapy_scan(
    x_BTD: Tensor,
    dt_BTD: Tensor,
    A_DN: Tensor,
    B_BTN: Tensor,
    C_BTN: Tensor,
    skip_D: Tensor,
    gate_BTD: Tensor,
) -> Tensor:
    """Scan as mambapy's own Mamba block does."""
    pscan = peer_module("mambapy.pscan").pscan
    step_BTD = softplus(dt_BTD)
    decay_BTDN = torch.exp(step_BTD.unsqueeze(-1) * A_DN)
    input_BTDN = (step_BTD * x_BTD).unsqueeze(-1) * B_BTN.unsqueeze(2)
    y_BTD: Tensor = (pscan(decay_BTDN, input_BTDN) @ C_BTN.unsqueeze(-1)).squeeze(-1)
    return (y_BTD + skip_D * x_BTD) * silu(gate_BTD)


def mamba_ssm_scan(
    x_BTD: Tensor,
    dt_BTD: Tensor,
    A_DN: Tensor,
    B_BTN: Tensor,
    C_BTN: Tensor,
    skip_D: Tensor,
    gate_BTD: Tensor,
) -> Tensor:
    """Scan with mamba-ssm's CUDA kernel, which wants time last."""
    kernel = peer_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    x, dt, B, C, gate = (tensor.transpose(1, 2) for tensor in (x_BTD, dt_BTD, B_BTN, C_BTN, gate_BTD))
    y_BDT: Tensor = kernel(x, dt, A_DN, B, C, skip_D, z=gate, delta_softplus=True)
    return y_BDT.transpose(1, 2)


def torch_conv(x_BTD: Tensor, weight_DK: Tensor, bias_D: Tensor) -> Tensor:
    """Convolve with torch's depthwise convolution, then SiLU, as transformers does."""
    channels, width = weight_DK.shape
    y_BDT = conv1d(x_BTD.transpose(1, 2), weight_DK.unsqueeze(1), bias_D, padding=width - 1, groups=channels)
    return silu(y_BDT[..., : x_BTD.shape[1]]).transpose(1, 2)


def causal_conv1d_conv(x_BTD: Tensor, weight_DK: Tensor, bias_D: Tensor) -> Tensor:
    """Convolve with causal-conv1d's CUDA kernel."""
    kernel = peer_module("causal_conv1d").causal_conv1d_fn
    y_BDT: Tensor = kernel(x_BTD.transpose(1, 2), weight_DK, bias_D, activation="silu")
    return y_BDT.transpose(1, 2)
