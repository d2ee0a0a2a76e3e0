"""The Mamba-1 mixer as Jamba uses it: with RMSNorm on the step size, B and C (arXiv:2403.19887, section 2).

B batch, T time, H hidden, D channels (expand x H), N states, R rank of the step size, K convolution width.
"""

import torch
import torch.nn.functional as F  # noqa: N812 (the name everybody reads)
from torch import Tensor, nn
from transformers import JambaConfig
from transformers.activations import ACT2FN

from spellbound.jamba.documents import Documents
from spellbound.jamba.norm import RMSNorm
from spellbound.jamba.ops import selective_scan
from spellbound.jamba.state import MambaState


class MambaMixer(nn.Module):
    """Gated causal convolution and selective scan over channels."""

    def __init__(self, config: JambaConfig) -> None:
        super().__init__()
        hidden, states, rank = config.hidden_size, config.mamba_d_state, config.mamba_dt_rank
        channels = config.mamba_expand * hidden
        self.sizes = [rank, states, states]
        self.in_proj = nn.Linear(hidden, 2 * channels, bias=config.mamba_proj_bias)
        self.conv1d = nn.Conv1d(
            channels, channels, config.mamba_d_conv, groups=channels, bias=config.mamba_conv_bias
        )
        self.act = ACT2FN[config.hidden_act]
        self.x_proj = nn.Linear(channels, sum(self.sizes), bias=False)
        self.dt_proj = nn.Linear(rank, channels, bias=True)
        self.A_log = nn.Parameter(torch.arange(1, states + 1).float().log().repeat(channels, 1))
        self.D = nn.Parameter(torch.ones(channels))
        self.out_proj = nn.Linear(channels, hidden, bias=config.mamba_proj_bias)
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

    def forward(self, x_BTH: Tensor, state: MambaState | None, documents: Documents | None) -> Tensor:
        """Mix along time; advance ``state``, forget at the start of each document. Returns (B, T, H)."""
        x_BTD, gate_BTD = self.in_proj(x_BTH).chunk(2, -1)
        padded_BSD = self._with_window(x_BTD, state)
        x_BTD = self.act(self._convolve(padded_BSD, documents))
        dt_BTR, B_BTN, C_BTN = self.x_proj(x_BTD).split(self.sizes, -1)
        dt_BTD = F.softplus(self.dt_proj(self.dt_layernorm(dt_BTR)))
        y_BTD, ssm_BDN = selective_scan(
            x_BTD,
            dt_BTD,
            -torch.exp(self.A_log.to(torch.promote_types(self.A_log.dtype, torch.float32))),
            self.b_layernorm(B_BTN),
            self.c_layernorm(C_BTN),
            self.D,
            h0_BDN=None if state is None else state.ssm_BDN,
            starts_BT=None if documents is None else documents.starts_BT,
        )
        if state is not None:
            state.stage(padded_BSD[:, x_BTD.shape[1] :].clone(), ssm_BDN)
        return self.out_proj(y_BTD * F.silu(gate_BTD))

    def _with_window(self, x_BTD: Tensor, state: MambaState | None) -> Tensor:
        if state is None:
            return F.pad(x_BTD, (0, 0, self.conv1d.kernel_size[0] - 1, 0))
        return torch.cat([state.conv_BKD.to(x_BTD.dtype), x_BTD], 1)

    def _convolve(self, padded_BSD: Tensor, documents: Documents | None) -> Tensor:
        # A sum of shifted products: no transpose to channels-first, and a document's edge is a mask on one
        # shift.
        width = self.conv1d.kernel_size[0]
        time = padded_BSD.shape[1] - (width - 1)
        total_BTD = padded_BSD.new_zeros(()) if self.conv1d.bias is None else self.conv1d.bias
        for tap in range(width):
            term = padded_BSD[:, tap : tap + time] * self.conv1d.weight[:, 0, tap]
            steps_back = width - 1 - tap
            if documents is not None and steps_back:
                term = term * documents.reaches(steps_back)[:, :, None]
            total_BTD = total_BTD + term
        return total_BTD
