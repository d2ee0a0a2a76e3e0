"""One token through one decoder layer in two calls, where nothing stands in the way; decoding is these calls.

The results are those of the layer's modules up to rounding (bfloat16 models are rounded less often here).
Anything that changes what the modules compute, such as an adapter, a hook or a quantised weight, sends the
token through the modules instead.
"""

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from spellbound.jamba.attention import Attention
from spellbound.jamba.feed_forward import Experts, GatedMLP, Router, SparseMoE
from spellbound.jamba.linear import Linear
from spellbound.jamba.mamba import CausalConv1d, MambaMixer
from spellbound.jamba.norm import RMSNorm
from spellbound.jamba.ops import kind_for
from spellbound.jamba.ops.cpp.step import (
    FeedForwardStep,
    FeedForwardWeights,
    MambaStep,
    MambaWeights,
    most_experts,
    most_taps,
)
from spellbound.jamba.state import LayerState, MambaState

if TYPE_CHECKING:
    from spellbound.jamba.model import JambaDecoderLayer

_OURS = {Attention, Experts, GatedMLP, Linear, MambaMixer, RMSNorm, Router, SparseMoE, CausalConv1d}


def one_token(layer: "JambaDecoderLayer", x_BTH: Tensor, state: LayerState | None) -> Tensor | None:
    """Return the layer's output for one token of one row and take ``state`` on; None where the modules have
    to."""
    if x_BTH.shape[:2] != (1, 1) or torch.is_grad_enabled() or kind_for(x_BTH) != "cpp":
        return None
    step = _steps.get(layer)
    if step is None or not step.current():
        step = _steps[layer] = _LayerStep(layer)
    if step.feed_forward is None or x_BTH.dtype != step.dtype or torch.is_autocast_enabled("cpu"):
        return None
    if step.mixer is None:
        x_BTH = x_BTH + layer.mixer(layer.input_layernorm(x_BTH), state, None)
    elif isinstance(state, MambaState) and state.conv_BKD.dtype == step.dtype:
        x_BTH, window_BKD, h_BDN = step.mixer(x_BTH, state.conv_BKD, state.ssm_BDN)
        state.stage(window_BKD, h_BDN)
    else:
        return None
    return step.feed_forward(x_BTH)


class _LayerStep:
    """The fused step of one decoder layer for its weights as they are now; ``feed_forward`` is None where
    there can be none, ``mixer`` too for attention."""

    def __init__(self, layer: "JambaDecoderLayer") -> None:
        self._modules = [module for name, module in layer.named_modules() if name]
        # What makes the layer: whoever holds it, under which name, and where its numbers lie.
        holders = [layer._modules, *(module._modules for module in self._modules)]
        self._parts = [(holder, name, part) for holder in holders for name, part in holder.items()]
        self._weights = [
            (module._parameters, name, weight, weight.data_ptr())
            for module in self._modules
            for name, weight in module._parameters.items()
            if weight is not None
        ]
        self.mixer: MambaStep | None = None
        self.feed_forward: FeedForwardStep | None = None
        self.dtype = self._weights[0][2].dtype
        if self._possible():
            if isinstance(layer.mixer, MambaMixer):
                self.mixer = _mamba_step(layer.mixer, layer.input_layernorm)
            self.feed_forward = _feed_forward_step(layer.feed_forward, layer.pre_ff_layernorm)

    def current(self) -> bool:
        """Say whether every module and weight is still the one this was made of, in its place and without
        hooks."""
        return (
            all(holder.get(name) is part for holder, name, part in self._parts)
            and all(
                holder.get(name) is weight and weight.data_ptr() == where
                for holder, name, weight, where in self._weights
            )
            and (self.feed_forward is None or all(map(_unhooked, self._modules)))
        )

    def _possible(self) -> bool:
        weights = [weight for _, _, weight, _ in self._weights]
        return (
            all(type(module) in _OURS and _unhooked(module) for module in self._modules)
            and all(type(weight) is nn.Parameter and weight.is_contiguous() for weight in weights)
            and all(weight.dtype == self.dtype and weight.device.type == "cpu" for weight in weights)
            and all(len(m.weight) <= most_experts() for m in self._modules if isinstance(m, Router))
            and all(m.weight.shape[-1] <= most_taps() for m in self._modules if isinstance(m, CausalConv1d))
        )


_steps: WeakKeyDictionary[nn.Module, _LayerStep] = WeakKeyDictionary()


def _unhooked(module: nn.Module) -> bool:
    return not (module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__)


def _mamba_step(mixer: MambaMixer, norm: RMSNorm) -> MambaStep:
    weights = MambaWeights(
        norm.weight,
        mixer.in_proj.weight,
        mixer.in_proj.bias,
        mixer.conv1d.weight,
        mixer.conv1d.bias,
        mixer.x_proj.weight,
        mixer.dt_layernorm.weight,
        mixer.b_layernorm.weight,
        mixer.c_layernorm.weight,
        mixer.dt_proj.weight,
        mixer.dt_proj.bias,
        mixer.A_log,
        mixer.D,
        mixer.out_proj.weight,
        mixer.out_proj.bias,
    )
    return MambaStep(weights, norm.eps)


def _feed_forward_step(feed_forward: GatedMLP | SparseMoE, norm: RMSNorm) -> FeedForwardStep:
    if isinstance(feed_forward, SparseMoE):
        router, experts = feed_forward.router, feed_forward.experts
        weights = FeedForwardWeights(
            norm.weight, router.weight, experts.gate_up_proj, None, experts.down_proj
        )
        return FeedForwardStep(weights, norm.eps, router.top_k)
    projections = (feed_forward.gate_proj, feed_forward.up_proj, feed_forward.down_proj)
    gate, up, down = (projection.weight for projection in projections)
    return FeedForwardStep(FeedForwardWeights(norm.weight, None, gate, up, down), norm.eps)
