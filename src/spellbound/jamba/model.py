"""Jamba as a language model: decoder layers, the stack, and the head that predicts the next token.

Parameter names are transformers' own, so checkpoints and adapters pass both ways. B batch, T time, H
hidden, V vocabulary.
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import JambaConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput

from spellbound.errors import ModelError
from spellbound.jamba.attention import Attention
from spellbound.jamba.checksum import bit_sums
from spellbound.jamba.documents import Documents
from spellbound.jamba.feed_forward import Experts, GatedMLP, Router, SparseMoE
from spellbound.jamba.linear import Linear, leave_to_quantisers
from spellbound.jamba.lora.layers import LowRank
from spellbound.jamba.mamba import MambaMixer
from spellbound.jamba.norm import RMSNorm
from spellbound.jamba.state import JambaState, LayerState
from spellbound.jamba.step import one_token

_STEP_SIZES = (
    1e-3,
    1e-1,
)  # fresh Mamba layers forget over 10 to 1,000 tokens, as Mamba's own code starts them
# Tokens of a row that go through all layers at once where no gradient is wanted: enough that reading the
# weights is not the work, few enough that the activations stay small.
_CHUNK_ON_CPU = 512
_CHUNK_ELSEWHERE = 8192
_ACTIVATIONS = ("silu", "swish")  # two names of one function
_INDEX_DTYPES = (torch.int64, torch.int32)


@dataclass
class JambaOutput(ModelOutput):  # type: ignore[misc]
    """``logits`` (B, T or fewer, V), and the mean ``loss`` over the labels, None without labels."""

    loss: Tensor | None = None
    logits: Tensor | None = None


class JambaDecoderLayer(GradientCheckpointingLayer):  # type: ignore[misc]
    """Mixer and feed-forward, each behind a norm and beside a residual path."""

    def __init__(self, config: JambaConfig, index: int) -> None:
        super().__init__()
        if config.layers_block_type[index] == "attention":
            self.self_attn = Attention(config)
        else:
            self.mamba = MambaMixer(config)
        self.feed_forward = SparseMoE(config) if config.layers_num_experts[index] > 1 else GatedMLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.pre_ff_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    @property
    def mixer(self) -> Attention | MambaMixer:
        """The layer's one mixer, whichever kind it is."""
        return self.self_attn if hasattr(self, "self_attn") else self.mamba

    def forward(
        self, x_BTH: Tensor, state: LayerState | None, documents: Documents | None, keep: int | None = None
    ) -> Tensor:
        """Return (B, T, H), or its last ``keep`` positions, which spares the others the feed-forward."""
        x_BTH = x_BTH + self.mixer(self.input_layernorm(x_BTH), state, documents)
        if keep is not None:
            x_BTH = x_BTH[:, x_BTH.shape[1] - keep :]
        return x_BTH if keep == 0 else x_BTH + self.feed_forward(self.pre_ff_layernorm(x_BTH))


class JambaPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """What transformers needs to know to load, place, shard and initialise the weights."""

    config: JambaConfig
    config_class = JambaConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["JambaDecoderLayer"]
    _supports_sdpa = True

    @classmethod
    def is_custom_code(cls) -> bool:
        """Say no: the weights are laid out as in transformers' own Jamba, so its checkpoint conversions
        apply."""
        return False

    @classmethod
    def can_generate(cls) -> bool:
        """Say no: transformers' generate() would want its own cache; :mod:`spellbound.engine` generates."""
        return False

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        spread = self.config.initializer_range
        if isinstance(module, MambaMixer):
            channels, states = module.A_log.shape
            init.copy_(module.A_log, torch.arange(1, states + 1).float().log().repeat(channels, 1))
            init.ones_(module.D)
            low, high = (math.log(size) for size in _STEP_SIZES)
            step_D = torch.empty(channels).uniform_(low, high).exp()
            init.copy_(module.dt_proj.bias, step_D + torch.log(-torch.expm1(-step_D)))
        elif isinstance(module, Experts):
            init.normal_(module.gate_up_proj, std=spread)
            init.normal_(module.down_proj, std=spread)
        elif isinstance(module, Router):
            init.normal_(module.weight, std=spread)


class JambaModel(JambaPreTrainedModel):
    """Embedding, decoder layers and the last norm."""

    def __init__(self, config: JambaConfig) -> None:
        super().__init__(config)
        if config.hidden_act not in _ACTIVATIONS:
            raise ModelError(
                f"hidden_act is {config.hidden_act!r}; the kernels know 'silu' alone, "
                "which every published Jamba has"
            )
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList(
            JambaDecoderLayer(config, index) for index in range(config.num_hidden_layers)
        )
        self.final_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    def forward(
        self, input_ids: Tensor, state: JambaState | None, documents: Documents | None, last: int = 0
    ) -> Tensor:
        """Return the hidden states (B, T, H), of the ``last`` positions alone unless that is 0.

        ``state`` is advanced once every layer has read every token. Where no gradient is wanted a long row is
        read in chunks, so that memory is that of a chunk, and of keys and values.
        """
        time = input_ids.shape[1]
        first_wanted = time - min(last or time, time)
        chunk = time if documents is not None else self._chunk(input_ids)
        layers = None if state is None else state.fork(time)
        if layers is None and chunk < time:
            layers = self.new_layer_states(len(input_ids), self.dtype, room=time)
        parts = []
        for begin in range(0, time, chunk):
            end = min(begin + chunk, time)
            keep = max(0, end - max(begin, first_wanted))
            x_BTH = self._read(input_ids[:, begin:end], layers, documents, keep)
            if keep:
                parts.append(self.final_layernorm(x_BTH))
        if state is not None and layers is not None:
            state.adopt(layers, state.length + time)
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def new_layer_states(self, batch_size: int, dtype: torch.dtype, room: int = 0) -> list[LayerState]:
        """Return each layer's state before the first token, with room for so many tokens."""
        return [
            cast(JambaDecoderLayer, layer).mixer.new_state(batch_size, dtype).fork(room)
            for layer in self.layers
        ]

    def _chunk(self, input_ids: Tensor) -> int:
        """Return how many tokens of each row to read at once: all of them, or about the same number in each
        chunk, so that no chunk is a mere remnant."""
        time = input_ids.shape[1]
        largest = _CHUNK_ON_CPU if input_ids.device.type == "cpu" else _CHUNK_ELSEWHERE
        # Weights brought from elsewhere layer by layer do not tell where a state would have to be.
        if torch.is_grad_enabled() or (time > largest and any(each.is_meta for each in self.parameters())):
            return time
        return math.ceil(time / math.ceil(time / largest))

    def _read(
        self, ids_BT: Tensor, states: list[LayerState] | None, documents: Documents | None, keep: int
    ) -> Tensor:
        """Take tokens through all layers; of the last one's output the last ``keep`` positions."""
        x_BTH = self.embed_tokens(ids_BT)
        for index, layer in enumerate(self.layers):
            last = index == len(self.layers) - 1
            x_BTH = layer(x_BTH, None if states is None else states[index], documents, keep if last else None)
        return x_BTH


class JambaForCausalLM(JambaPreTrainedModel):
    """Jamba with its language modelling head; loads transformers' and hub checkpoints of model type
    ``jamba``."""

    _tied_weights_keys = {"lm_head.weight": "model.embed_tokens.weight"}
    fused_step: object = None  # kept by one_token; here, so that it lives no longer than the model
    adapter_base: str | None = None  # which weights are under the adapter, if one is on

    def __init__(self, config: JambaConfig) -> None:
        super().__init__(config)
        self.model = JambaModel(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        if getattr(config, "quantization_config", None) is not None:
            leave_to_quantisers(self)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        *,
        state: JambaState | None = None,
        document_ids: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int = 0,
        **foreign: Any,
    ) -> JambaOutput:
        """Read tokens, predict the next ones.

        Args:
            input_ids: (B, T) token ids. Shorter rows are padded on the right, which no earlier position sees.
            state: what was read before; advanced in place. The tokens continue it exactly, however they
            are split. Gradients reach these tokens, not those the state remembers.
            document_ids: (B, T), for packed rows: neighbouring tokens with different ids do not see one
            another.
            labels: (B, T) token ids, -100 where no prediction counts; shifted here, so labels = input_ids
            is usual. Where nothing counts the loss is 0.
            logits_to_keep: return logits of the last so many positions only; 0, or more than T, for all.
            foreign: arguments of transformers' models that wrappers pass along; must be None
                (an ``attention_mask`` of right padding is taken, as it changes nothing).

        Raises:
            ModelError: token ids, labels or documents that cannot be used.
            StateError: a state of another model or another batch size.
        """
        _check_foreign(foreign)
        if state is not None and labels is None and input_ids.shape == (1, 1) and logits_to_keep >= 0:
            self._check_state(input_ids, state, document_ids)
            next_BTV = one_token(self, input_ids, state)
            if next_BTV is not None:
                return JambaOutput(logits=next_BTV)
        self._check_input(input_ids)
        self._check_state(input_ids, state, document_ids)
        self._check_labels(input_ids, labels)
        if logits_to_keep < 0:
            raise ModelError(f"logits_to_keep is {logits_to_keep}; give how many at the end, or 0 for all")
        wanted = logits_to_keep if labels is None else 0
        logits_BTV = self.lm_head(self.model(input_ids, state, Documents.of(document_ids, input_ids), wanted))
        if labels is None:
            return JambaOutput(logits=logits_BTV)
        loss = _next_token_loss(logits_BTV, labels, document_ids)
        return JambaOutput(loss=loss, logits=logits_BTV[:, -logits_to_keep:])

    def new_state(self, batch_size: int, dtype: torch.dtype | None = None) -> JambaState:
        """Return the state before the first token, for ``batch_size`` rows.

        ``dtype`` is that of the keys, values and convolution windows (the model's own by default); SSM
        states are float32.
        """
        dtype = self.dtype if dtype is None else dtype
        if not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise ModelError(
                f"state dtype {dtype!r} is not a floating torch dtype; use torch.float32 or torch.bfloat16"
            )
        if batch_size < 1:
            raise ModelError(f"batch_size is {batch_size}; a state has at least one row")
        return JambaState(self, self.model.new_layer_states(batch_size, dtype), batch_size)

    def fingerprint(self) -> str:
        """Hash of config, every weight to the bit, and which adapters are on: tells models apart.

        The same on every device. It reads all weights, each time: 2.3 GB a second on one core.
        """
        digest = hashlib.sha256()
        for name, parameter in sorted(self.named_parameters()):
            digest.update(f"{name}{tuple(parameter.shape)}{parameter.dtype}".encode())
            digest.update(bit_sums(parameter))
        for name, module in self.named_modules():
            if isinstance(module, LowRank):
                digest.update(f"{name}{module.scale}".encode())
            if isinstance(getattr(module, "disable_adapters", None), bool):  # a layer of PEFT
                active = None if module.disable_adapters else module.active_adapters
                digest.update(f"{name}{active}{getattr(module, 'scaling', None)}".encode())
        shape = {
            key: value
            for key, value in sorted(self.config.to_dict().items())
            if isinstance(value, int | float) or key == "hidden_act"
        }
        digest.update(repr(shape).encode())
        return digest.hexdigest()[:32]

    def prepare_inputs_for_generation(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Refuse transformers' generate(), which would continue from a cache wrongly; PEFT only asks that
        this exists."""
        raise ModelError(
            "generate() is not offered; use spellbound.engine, or feed tokens with state=model.new_state(1)"
        )

    def _check_input(self, input_ids: Tensor) -> None:
        if input_ids.dim() != 2 or input_ids.dtype not in _INDEX_DTYPES or input_ids.numel() == 0:
            raise ModelError(
                f"input_ids has shape {tuple(input_ids.shape)} and dtype {input_ids.dtype}; "
                "give int64 or int32 of shape (batch, time), at least one token"
            )
        # One synchronisation; skipped for single tokens on a GPU, where it would stall every step of
        # a decode.
        if input_ids.device.type == "cpu" or input_ids.shape[1] > 1:
            low, high = (int(bound) for bound in input_ids.aminmax())
            if low < 0 or high >= self.config.vocab_size:
                worst = low if low < 0 else high
                raise ModelError(
                    f"token id {worst} is outside the vocabulary of {self.config.vocab_size}; "
                    "use this model's own tokenizer"
                )

    def _check_state(self, input_ids: Tensor, state: JambaState | None, document_ids: Tensor | None) -> None:
        if state is None:
            return
        state.prepare(self, len(input_ids))
        if document_ids is not None:
            raise ModelError(
                "document_ids and state were both given; a state continues one document, packing starts many"
            )
        if self.training and _recomputes(self.model.layers) and torch.is_grad_enabled():
            raise ModelError(
                "a state was given while gradient checkpointing reads the tokens twice; use one of the two"
            )

    def _check_labels(self, input_ids: Tensor, labels: Tensor | None) -> None:
        if labels is None:
            return
        if labels.shape != input_ids.shape or labels.dtype not in _INDEX_DTYPES:
            raise ModelError(
                f"labels has shape {tuple(labels.shape)} and dtype {labels.dtype}; "
                f"give one int64 per token, {tuple(input_ids.shape)}"
            )
        wrong = labels[(labels != -100) & ((labels < 0) | (labels >= self.config.vocab_size))]
        if len(wrong):
            raise ModelError(
                f"label {int(wrong[0])} is neither -100 nor in the vocabulary of {self.config.vocab_size}"
            )


def _recomputes(layers: nn.ModuleList) -> bool:
    return any(cast(JambaDecoderLayer, layer).gradient_checkpointing for layer in layers)


def _check_foreign(foreign: dict[str, Any]) -> None:
    mask = foreign.pop("attention_mask", None)
    if mask is not None and (mask.dim() != 2 or bool((mask[:, 1:] > mask[:, :-1]).any())):
        raise ModelError(
            "attention_mask is not (batch, time) with padding on the right alone; "
            "pad on the right, which needs no mask here"
        )
    foreign.pop("return_dict", None)
    given = sorted(name for name, value in foreign.items() if value is not None and value is not False)
    if given:
        raise TypeError(
            f"JambaForCausalLM.forward does not take {', '.join(given)}; see its docstring for what it takes"
        )


def _next_token_loss(logits_BTV: Tensor, labels_BT: Tensor, document_ids: Tensor | None) -> Tensor:
    targets_BT = labels_BT[:, 1:]
    if document_ids is not None:
        # The last token of a document does not predict the first of the next.
        targets_BT = targets_BT.masked_fill(document_ids[:, 1:] != document_ids[:, :-1], -100)
    wide = torch.promote_types(logits_BTV.dtype, torch.float32)
    total = cross_entropy(
        logits_BTV[:, :-1].flatten(0, 1).to(wide), targets_BT.flatten().long(), reduction="sum"
    )
    # Not "mean": over no target at all that is NaN, and one such batch would spoil every weight.
    return total / (targets_BT != -100).sum().clamp(min=1)
