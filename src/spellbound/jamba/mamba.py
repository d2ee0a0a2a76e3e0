"""The Mamba-1 mixer as Jamba uses it: with RMSNorm on the step size, B and C (arXiv:2403.19887, section 2).

B batch, T time, H hidden, D channels (expand x H), N states, R rank of the step size, K convolution width.
"""

import torch
from torch import Tensor, nn
from transformers import JambaConfig

from spellbound.jamba.documents import Documents
from spellbound.jamba.linear import Linear
from spellbound.jamba.norm import RMSNorm
from spellbound.jamba.ops import causal_conv, causal_conv_onwards, selective_scan
from spellbound.jamba.state import MambaState


class CausalConv1d(nn.Conv1d):
    """Depthwise convolution over what came before, then SiLU; its own module, so that hooks which bring the
    weights from elsewhere see it called."""

    def __init__(self, channels: int, taps: int, bias: bool) -> None:
        super().__init__(channels, channels, taps, groups=channels, bias=bias)

    def forward(  # type: ignore[override]
        self, x_BTD: Tensor, window_BKD: Tensor | None, starts_BT: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return (B, T, D), and the window after ``x_BTD`` where there was one before it."""
        weight_DK = self.weight[:, 0]
        if window_BKD is None:
            return causal_conv(x_BTD, weight_DK, self.bias, starts_BT=starts_BT), None
        return causal_conv_onwards(x_BTD, weight_DK, self.bias, window_BKD)


class MambaMixer(nn.Module):
    """Gated causal convolution and selective scan over channels."""

    def __init__(self, config: JambaConfig) -> None:
        super().__init__()
        hidden, states, rank = config.hidden_size, config.mamba_d_state, config.mamba_dt_rank
        channels = config.mamba_expand * hidden
        self.sizes = [rank, states, states]
        self.in_proj = Linear(hidden, 2 * channels, bias=config.mamba_proj_bias)
        self.conv1d = CausalConv1d(channels, config.mamba_d_conv, config.mamba_conv_bias)
        self.x_proj = Linear(channels, sum(self.sizes), bias=False)
        self.dt_proj = Linear(rank, channels, bias=True)
        self.A_log = nn.Parameter(torch.arange(1, states + 1).float().log().repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        self.out_proj = Linear(channels, hidden, bias=config.mamba_proj_bias)
        self.dt_layernorm = RMSNorm(rank, config.rms_norm_eps)
        self.b_layernorm = RMSNorm(states, config.rms_norm_eps)
        self.c_layernorm = RMSNorm(states, config.rms_norm_eps)

    def new_state(self, batch_size: int, dtype: torch.dtype) -> MambaState:
        """Return the state before the first token: zeros; the SSM state in float32 (float64 for a float64
        model)."""
        channels, states = self.A_log.shape
        device, window = self.A_log.device, self.conv1d.kernel_size[0] - 1
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        return MambaState(
            torch.zeros(batch_size, window, channels, dtype=dtype, device=device),
            torch.zeros(batch_size, channels, states, dtype=wide, device=device),
        )

    def decay(self) -> Tensor:
        """Return A (D, N), negative, in float32 or wider."""
        return -torch.exp(self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32)))

    def forward(self, x_BTH: Tensor, state: MambaState | None, documents: Documents | None) -> Tensor:
        """Mix along time; advance ``state``, forget at the start of each document. Returns (B, T, H)."""
        x_BTD, gate_BTD = self.in_proj(x_BTH).chunk(2, -1)
        starts_BT = None if documents is None else documents.starts_BT
        mixed_BTD, window_BKD = self.conv1d(x_BTD, None if state is None else state.conv_BKD, starts_BT)
        dt_BTR, B_BTN, C_BTN = self.x_proj(mixed_BTD).split(self.sizes, -1)
        y_BTD, ssm_BDN = selective_scan(
            mixed_BTD,
            self.dt_proj(self.dt_layernorm(dt_BTR)),
            self.decay(),
            self.b_layernorm(B_BTN),
            self.c_layernorm(C_BTN),
            self.D,
            gate_BTD=gate_BTD,
            h0_BDN=None if state is None else state.ssm_BDN,
            starts_BT=starts_BT,
        )
        if state is not None:
            state.stage(window_BKD, ssm_BDN)
        return self.out_proj(y_BTD)
