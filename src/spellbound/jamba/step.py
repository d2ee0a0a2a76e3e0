"""One token through the whole model in one call, where nothing stands in the way; decoding is these calls.

The results are those of the modules up to rounding (bfloat16 models are rounded less often here). Anything
that changes what the modules compute, such as an adapter, a hook or a quantised weight, sends the token
through the modules instead.
"""

from threading import Lock
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from spellbound.jamba.attention import Attention
from spellbound.jamba.feed_forward import Experts, GatedMLP, Router, SparseMoE
from spellbound.jamba.linear import Linear
from spellbound.jamba.mamba import CausalConv1d, MambaMixer
from spellbound.jamba.norm import RMSNorm
from spellbound.jamba.ops import kind_for
from spellbound.jamba.ops.cpp.step import (
    AttentionMemory,
    AttentionWeights,
    FeedForwardWeights,
    MambaMemory,
    MambaWeights,
    Memory,
    Mixer,
    ModelWeights,
    TokenStep,
    most_experts,
    most_taps,
)
from spellbound.jamba.state import JambaState, LayerState, MambaState

if TYPE_CHECKING:
    from spellbound.jamba.model import JambaDecoderLayer, JambaForCausalLM

_OURS = {Attention, CausalConv1d, Experts, GatedMLP, Linear, MambaMixer, RMSNorm, Router, SparseMoE}
_OURS |= {nn.Embedding, nn.ModuleList}


def one_token(model: "JambaForCausalLM", ids_BT: Tensor, state: JambaState) -> Tensor | None:
    """Return the logits (1, 1, V) after one token of one row and take ``state`` on; None where the modules
    have to."""
    if ids_BT.numel() != 1 or torch.is_grad_enabled() or ids_BT.device.type != "cpu":
        return None
    step = _steps.get(model)
    if step is None or not step.current():
        step = _steps[model] = _Step(model)
    token = int(ids_BT)
    if step.call is None or not 0 <= token < step.vocabulary or torch.is_autocast_enabled("cpu"):
        return None
    layers = state.fork(1)
    if not all(layer.fits(step.dtype) for layer in layers) or kind_for(step.weight) != "cpp":
        return None
    with step.lock:
        logits_V, after = step.call(token, [_memory(layer) for layer in layers])
    remembered = iter(after)
    for layer in layers:
        if isinstance(layer, MambaState):
            layer.stage(*next(remembered))
        else:
            layer.count_one()
    state.adopt(layers, state.length + 1)
    return logits_V.to(step.dtype).view(1, 1, -1)


def _memory(state: LayerState) -> Memory:
    if isinstance(state, MambaState):
        return MambaMemory(state.conv_BKD, state.ssm_BDN)
    return AttentionMemory(*state.buffers, state.length)


class _Step:
    """The fused step of a model for its weights as they are now; ``call`` is None where there can be none."""

    def __init__(self, model: "JambaForCausalLM") -> None:
        modules = list(model.modules())
        # Looked at again before every token, when nothing of it is in the processor's caches, so as little
        # as tells: what modules hold under which name, where the weights' numbers lie, and how many hooks
        # were ever registered.
        held = [each for module in modules for each in (module._modules, module._parameters) if each]
        self._places = [each for each in held for _ in each]
        self._names = [name for each in held for name in each]
        weights = (weight for module in modules for weight in module._parameters.values())
        self._weights = [weight for weight in weights if weight is not None]
        # A forward of its own would lie in a module's dict.
        self._sized = [*held, *(module.__dict__ for module in modules)]
        self._seen = self._look()
        self.weight = model.lm_head.weight
        self.dtype, self.vocabulary = self.weight.dtype, len(self.weight)
        self.lock = Lock()
        self.call: TokenStep | None = None
        if self._possible(model, modules[1:]):
            base = model.model
            layers = [_weights(cast("JambaDecoderLayer", layer)) for layer in base.layers]
            parts = (base.embed_tokens.weight, layers, base.final_layernorm.weight, self.weight)
            self.call = TokenStep(ModelWeights(*parts), base.final_layernorm.eps)

    def current(self) -> bool:
        """Say whether every module and weight is still the one this was made of, in its place, and no hook
        is new."""
        return self._look() == self._seen

    def _look(self) -> tuple[object, ...]:
        return (
            RemovableHandle.next_id,
            list(map(len, self._sized)),
            list(map(id, map(dict.get, self._places, self._names))),
            list(map(Tensor.data_ptr, self._weights)),
        )

    def _possible(self, model: "JambaForCausalLM", modules: list[nn.Module]) -> bool:
        weights, ours = self._weights, {*_OURS, type(model.model), type(model.model.layers[0])}
        return (
            all(type(module) in ours and _plain(module) for module in modules)
            and all(type(weight) is nn.Parameter and weight.is_contiguous() for weight in weights)
            and all(weight.dtype == self.dtype and weight.device.type == "cpu" for weight in weights)
            and len({each.eps for each in modules if isinstance(each, RMSNorm)}) == 1
            and all(len(each.weight) <= most_experts() for each in modules if isinstance(each, Router))
            and all(
                each.weight.shape[-1] <= most_taps() for each in modules if isinstance(each, CausalConv1d)
            )
        )


def _plain(module: nn.Module) -> bool:
    return not (module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__)


_steps: WeakKeyDictionary[nn.Module, _Step] = WeakKeyDictionary()


def _weights(layer: "JambaDecoderLayer") -> tuple[Mixer, FeedForwardWeights]:
    mixer, feed_forward, norm = layer.mixer, layer.feed_forward, layer.pre_ff_layernorm.weight
    if isinstance(mixer, MambaMixer):
        mixing: Mixer = _mamba_weights(mixer, layer.input_layernorm)
    else:
        mixing = AttentionWeights(
            layer.input_layernorm.weight,
            mixer.q_proj.weight,
            mixer.k_proj.weight,
            mixer.v_proj.weight,
            mixer.o_proj.weight,
            mixer.head_size,
        )
    if isinstance(feed_forward, SparseMoE):
        router, experts = feed_forward.router, feed_forward.experts
        parts = (router.weight, experts.gate_up_proj, None, experts.down_proj)
        return mixing, FeedForwardWeights(norm, *parts, router.top_k)
    gate, up, down = feed_forward.gate_proj, feed_forward.up_proj, feed_forward.down_proj
    return mixing, FeedForwardWeights(norm, None, gate.weight, up.weight, down.weight, 1)


def _mamba_weights(mixer: MambaMixer, norm: RMSNorm) -> MambaWeights:
    return MambaWeights(
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
