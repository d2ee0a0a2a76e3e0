"""One token of each row through the whole model in one call, where nothing stands in the way; decoding is
these calls.

The results are those of the modules up to rounding (bfloat16 models are rounded less often here), and the
same for a row whatever is beside it. Our own adapters are taken along, but for those of embedding and head.
Anything else that changes what the modules compute, such as a hook or a quantised weight, sends the tokens
through the modules instead. B rows, V vocabulary.
"""

from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook
from torch.utils.hooks import RemovableHandle

from spellbound.jamba.attention import Attention
from spellbound.jamba.feed_forward import Experts, Router, SparseMoE
from spellbound.jamba.linear import describe_bf16
from spellbound.jamba.lora.layers import Adapted, LoraExperts, LoraLinear, LoraRouter, LowRank
from spellbound.jamba.mamba import CausalConv1d, MambaMixer
from spellbound.jamba.norm import RMSNorm
from spellbound.jamba.ops import kind_for
from spellbound.jamba.ops.cpp.library import POINTER, load_library
from spellbound.jamba.ops.cpp.step import (
    AttentionWeights,
    Changes,
    FeedForwardWeights,
    Layout,
    LowRankChange,
    MambaMemory,
    MambaWeights,
    Memory,
    Mixer,
    ModelWeights,
    PagedMemory,
    TokenStep,
    most_taps,
)
from spellbound.jamba.sequence import MambaRow, SequenceState, paged
from spellbound.jamba.state import JambaState, LayerState, MambaState

if TYPE_CHECKING:
    from spellbound.jamba.model import JambaDecoderLayer, JambaForCausalLM

_HERE = __name__.rpartition(".")[0] + "."  # modules defined here, and these two, compute what we know
_OTHERS = (nn.Embedding, nn.ModuleList)
_ADAPTED = (LoraLinear, LoraRouter, LoraExperts)
_ADAPTERS = _HERE + "lora."  # of which these are taken along, and no others
# Up to so many rows this is the faster way with wide weights; with narrow ones it always is. Fewer where the
# processor multiplies bfloat16, which is done by torch.
_MANY, _MANY_HALVES = 32, 4
_WIDE = 1024  # numbers of a token


def one_token(model: "JambaForCausalLM", ids_BT: Tensor, state: JambaState) -> Tensor | None:
    """Return the logits (1, 1, V) after one token of one row and take ``state`` on; None where the modules
    have to."""
    fits = ids_BT.shape == (1, 1) and ids_BT.dtype in (torch.int64, torch.int32)
    if not fits or torch.is_grad_enabled() or ids_BT.device.type != "cpu":
        return None
    step, token = _step_of(model), int(ids_BT)
    if step is None or not 0 <= token < step.vocabulary:
        return None
    layers = state.fork(1)
    if not all(layer.fits(step.dtype) for layer in layers):
        return None
    logits_BV, after = step([token], [_memory(layer) for layer in layers])
    remembered = iter(after)
    for layer in layers:
        if isinstance(layer, MambaState):
            layer.stage(*next(remembered))
        else:
            layer.count_one()
    state.adopt(layers, state.length + 1)
    return logits_BV.to(step.dtype)[:, None]


def next_tokens(
    model: "JambaForCausalLM", tokens: Sequence[int], states: Sequence[SequenceState]
) -> Tensor | None:
    """Return the logits (B, V) after one token of each sequence and take them on; None where the modules
    have to.

    Without gradients; the tokens are in the vocabulary, the sequences different ones of this model.
    """
    step = None if model.device.type != "cpu" else _step_of(model)
    if step is None or step.slower(len(tokens)) or not all(state.fits(step.dtype) for state in states):
        return None
    for state in states:
        state.reserve(1)
    mamba = attention = 0
    memories: list[Memory] = []
    for attends in step.attends:
        if attends:
            memories.append(paged(states, attention))
            attention += 1
        else:
            rows = zip(*(state.mamba[mamba].addresses() for state in states), strict=True)
            memories.append(MambaMemory(*rows))
            mamba += 1
    logits_BV, after = step(tokens, memories)
    for row, state in enumerate(states):
        state.advance([MambaRow(*each, row) for each in after], 1)
    return logits_BV.to(step.dtype)


def _step_of(model: "JambaForCausalLM") -> "_Step | None":
    """Return the model's step, made anew where it changed; None where there can be none now."""
    step = model.fused_step
    if not (isinstance(step, _Step) and step.current()):
        step = model.fused_step = _Step(model)
    if step.call is None or torch.is_autocast_enabled("cpu") or (model.training and step.drops):
        return None
    return step if kind_for(step.weight) == "cpp" else None


def _memory(state: LayerState) -> Memory:
    """Return where the kernels find the state of one row, in which all keys are one page."""
    if isinstance(state, MambaState):
        return MambaMemory([state.conv_BKD.data_ptr()], [state.ssm_BDN.data_ptr()])
    keys, values = ((POINTER * 1)(buffer.data_ptr()) for buffer in state.buffers)
    room, stride = state.buffers[0].shape[2], state.buffers[0].stride(1)
    return PagedMemory([keys], [values], [state.length + 1], Layout(0, 0, room, stride))


class _Step:
    """The fused step of a model for its weights as they are now; ``call`` is None where there can be none."""

    def __init__(self, model: "JambaForCausalLM") -> None:
        modules = list(model.modules())
        # Kept, so that no other module ever has the id of one of these.
        self._modules = modules[1:]
        # Looked at again before every token, when nothing of it is in the processor's caches, so as little
        # as tells: what modules hold under which name, where the weights' numbers lie, how many hooks were
        # ever registered, and whether those that are there still are.
        held = [each for module in modules for each in (module._modules, module._parameters) if each]
        hooks = (
            each
            for module in self._modules
            for each in (module._forward_hooks, module._forward_pre_hooks)
            if each
        )
        self._places = [each for each in held for _ in each]
        self._names = [name for each in held for name in each]
        weights = (weight for module in modules for weight in module._parameters.values())
        self._weights = [weight for weight in weights if weight is not None]
        # A forward of its own would lie in a module's dict.
        self._sized = [*held, *hooks, *(module.__dict__ for module in self._modules)]
        self._routers = [each for each in self._modules if isinstance(each, Router)]
        self._beside = [each for each in self._modules if isinstance(each, LowRank)]
        self._ends = (model.model.embed_tokens, model.lm_head)
        self._seen = self._look()
        self.lock = Lock()
        self.call: TokenStep | None = None
        if self._possible():
            base, head_VH = model.model, model.lm_head.weight
            self.weight, self.dtype = head_VH, head_VH.dtype
            self.vocabulary = len(base.embed_tokens.weight)
            self.attends = [isinstance(each.mixer, Attention) for each in base.layers]
            self.drops = any(each.dropout for each in self._modules if isinstance(each, Attention | LowRank))
            decoder = [cast("JambaDecoderLayer", layer) for layer in base.layers]
            layers, changes = [_weights(layer) for layer in decoder], [_changes(layer) for layer in decoder]
            parts = (base.embed_tokens.weight, layers, base.final_layernorm.weight, head_VH, changes)
            self.call = TokenStep(ModelWeights(*parts), base.final_layernorm.eps)

    def __call__(
        self, tokens: Sequence[int], memories: list[Memory]
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return what :class:`~spellbound.jamba.ops.cpp.step.TokenStep` returns; one thread at a time."""
        with self.lock:
            return cast("TokenStep", self.call)(tokens, memories)

    def slower(self, rows: int) -> bool:
        """Say whether the modules read a token of so many rows sooner."""
        halves = self.dtype == torch.bfloat16 and describe_bf16().native
        return self.weight.shape[1] >= _WIDE and rows > (_MANY_HALVES if halves else _MANY)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        """Leave a copy of the model without one; it makes its own."""
        return type(None), ()

    def current(self) -> bool:
        """Say whether every module and weight is still the one this was made of, in its place, and no hook
        is new."""
        return self._look() == self._seen

    def _look(self) -> tuple[object, ...]:
        return (
            RemovableHandle.next_id,
            bool(_has_any_global_hook()),
            list(map(len, self._sized)),
            list(map(id, map(dict.get, self._places, self._names))),
            list(map(Tensor.data_ptr, self._weights)),
            [router.top_k for router in self._routers],
            [lora.scale for lora in self._beside],
        )

    def _possible(self) -> bool:
        modules = self._modules
        factors = {id(factor) for each in self._beside for factor in (each.lora_A, each.lora_B)}
        weights = [weight for weight in self._weights if id(weight) not in factors]
        return (
            load_library() is not None
            and not self._seen[1]
            and all(_plain(module) for module in modules)
            and all(_taken_along(each) for each in self._beside)
            and not isinstance(self._ends[0], Adapted)
            and not isinstance(self._ends[1], Adapted)
            and all(type(weight) is nn.Parameter and weight.is_contiguous() for weight in weights)
            and len({weight.dtype for weight in weights}) == 1
            and all(weight.device.type == "cpu" for weight in weights)
            and len({each.eps for each in modules if isinstance(each, RMSNorm)}) == 1
            and all(each.top_k <= len(each.weight) for each in self._routers)
            and all(
                each.weight.shape[-1] <= most_taps() for each in modules if isinstance(each, CausalConv1d)
            )
        )


def _plain(module: nn.Module) -> bool:
    kind, home = type(module), type(module).__module__
    known = kind in (*_OTHERS, *_ADAPTED, LowRank) or (
        home.startswith(_HERE) and not home.startswith(_ADAPTERS)
    )
    hooks = module._forward_hooks or module._forward_pre_hooks
    return known and not hooks and "forward" not in module.__dict__


def _taken_along(lora: LowRank) -> bool:
    """Whether the kernels can read an adapter's numbers where they lie."""
    factors = (lora.lora_A, lora.lora_B)
    return all(
        type(each) is nn.Parameter
        and each.dtype == torch.float32
        and each.device.type == "cpu"
        and each.is_contiguous()
        for each in factors
    )


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
        router: Router = _bare(feed_forward.router)
        experts: Experts = _bare(feed_forward.experts)
        parts = (router.weight, experts.gate_up_proj, None, experts.down_proj)
        return mixing, FeedForwardWeights(norm, *parts, router.top_k)
    gate, up, down = feed_forward.gate_proj, feed_forward.up_proj, feed_forward.down_proj
    return mixing, FeedForwardWeights(norm, None, gate.weight, up.weight, down.weight, 1)


def _changes(layer: "JambaDecoderLayer") -> Changes:
    """Return what adapters add to a layer's products."""
    found: dict[str, LowRankChange] = {}
    for part in (layer.mixer, layer.feed_forward):
        for name, module in part.named_children():
            if isinstance(module, LoraExperts):
                found |= _of_experts(module.gate_up_proj, module.down_proj)
            elif isinstance(module, LoraLinear | LoraRouter):
                lora = module.lora
                found[name.removesuffix("_proj")] = LowRankChange(lora.lora_A, lora.lora_B, lora.scale)
    return found


def _of_experts(first: LowRank | None, second: LowRank | None) -> dict[str, LowRankChange]:
    found: dict[str, LowRankChange] = {}
    if first is not None:
        inner = first.lora_B.shape[1] // 2
        for name, half in (("gate", first.lora_B[:, :inner]), ("up", first.lora_B[:, inner:])):
            found[name] = LowRankChange(first.lora_A, half, first.scale)
    if second is not None:
        found["down"] = LowRankChange(second.lora_A, second.lora_B, second.scale)
    return found


def _bare(module: nn.Module) -> Any:
    return module.base_layer if isinstance(module, Adapted) else module


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
