"""A Jamba as a GGUF file, the format of llama.cpp. Only the writing itself needs the package gguf."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from spellbound.errors import EnvironmentFault, InputError

if TYPE_CHECKING:
    from transformers import JambaConfig

    from spellbound.train.gguf_tokenizer import Vocabulary

FILE_TYPES = {"F32": 0, "F16": 1, "Q8_0": 7}  # llama.cpp's numbers for what most of a file consists of
_QUANTIZED_GROUP = 32  # Q8_0 stores so many neighbours together

_MAMBA = {
    "in_proj.weight": "ssm_in.weight",
    "conv1d.bias": "ssm_conv1d.bias",
    "x_proj.weight": "ssm_x.weight",
    "dt_proj.weight": "ssm_dt.weight",
    "dt_proj.bias": "ssm_dt.bias",
    "dt_layernorm.weight": "ssm_dt_norm.weight",
    "b_layernorm.weight": "ssm_b_norm.weight",
    "c_layernorm.weight": "ssm_c_norm.weight",
    "D": "ssm_d",
    "out_proj.weight": "ssm_out.weight",
}
_ATTENTION = {
    "q_proj.weight": "attn_q.weight",
    "k_proj.weight": "attn_k.weight",
    "v_proj.weight": "attn_v.weight",
    "o_proj.weight": "attn_output.weight",
}
_DENSE = {f"{part}_proj.weight": f"ffn_{part}.weight" for part in ("gate", "up", "down")}
_ALWAYS_F32 = ("conv1d", "ssm_a", "ffn_gate_inp")  # besides vectors; llama.cpp wants them so


class GgufTensor(NamedTuple):
    """A tensor as llama.cpp names and lays it out."""

    name: str
    values: Tensor

    @property
    def large(self) -> bool:
        """Whether it may be quantised: the weight of a product, or the embedding."""
        return self.values.dim() > 1 and not any(part in self.name for part in _ALWAYS_F32)


def gguf_tensors(config: JambaConfig, weights: Mapping[str, Tensor]) -> Iterator[GgufTensor]:
    """Yield every weight of a Jamba under llama.cpp's name for it."""
    yield GgufTensor("token_embd.weight", weights["model.embed_tokens.weight"])
    yield GgufTensor("output_norm.weight", weights["model.final_layernorm.weight"])
    if not config.tie_word_embeddings:
        yield GgufTensor("output.weight", weights["lm_head.weight"])
    for index, kind in enumerate(config.layers_block_type):
        prefix = f"model.layers.{index}."
        layer = {
            name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)
        }
        named = _layer_tensors(layer, kind, config.layers_num_experts[index], config.intermediate_size)
        for name, values in named:
            yield GgufTensor(f"blk.{index}.{name}", values)


def write_gguf(
    path: Path,
    config: JambaConfig,
    weights: Mapping[str, Tensor],
    *,
    quantization: str,
    name: str,
    vocabulary: Vocabulary | None = None,
) -> None:
    """Write weights as F32, F16 or Q8_0, one tensor in memory at a time; vectors and the like stay float32.

    Without a ``vocabulary`` llama.cpp reads token ids alone. Q8_0 falls back to F16 where rows are no
    multiple of 32.

    Raises:
        InputError: an unknown quantization.
        EnvironmentFault: the package gguf is missing.
    """
    require_quantization(quantization)
    gguf = gguf_package()
    writer = gguf.GGUFWriter(path, "jamba")
    _describe(writer, config, quantization, name)
    if vocabulary is None:
        writer.add_tokenizer_model("no_vocab")
    else:
        vocabulary.write(writer, config.vocab_size)
    formats = [(tensor, _Format.of(gguf, tensor, quantization)) for tensor in gguf_tensors(config, weights)]
    for tensor, form in formats:
        writer.add_tensor_info(tensor.name, form.shape, form.dtype, form.bytes, raw_dtype=form.raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor, form in formats:
        writer.write_tensor_data(form.numbers(gguf, tensor.values))
    writer.close()


def require_quantization(quantization: str) -> None:
    """Refuse a GGUF type that we do not write."""
    if quantization not in FILE_TYPES:
        raise InputError(f"GGUF type {quantization!r} is unknown; give {', '.join(FILE_TYPES)}")


def gguf_package() -> ModuleType:
    """Import gguf, or say how to install it."""
    try:
        return importlib.import_module("gguf")
    except ImportError as error:
        raise EnvironmentFault(
            f"gguf cannot be imported ({error}); pip install 'spellbound[train]'"
        ) from error


@dataclass(frozen=True, kw_only=True)
class _Format:
    """How a tensor is stored: the shape of what is stored, its numpy dtype, its bytes, and the number of
    the type where it is packed."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    bytes: int
    raw: Any = None

    @classmethod
    def of(cls, gguf: ModuleType, tensor: GgufTensor, quantization: str) -> _Format:
        shape, count = tuple(tensor.values.shape), tensor.values.numel()
        if not tensor.large or quantization == "F32":
            return cls(shape=shape, dtype=np.dtype(np.float32), bytes=4 * count)
        if quantization == "F16" or shape[-1] % _QUANTIZED_GROUP:
            return cls(shape=shape, dtype=np.dtype(np.float16), bytes=2 * count)
        kind = gguf.GGMLQuantizationType[quantization]
        packed = tuple(gguf.quant_shape_to_byte_shape(shape, kind))
        return cls(shape=packed, dtype=np.dtype(np.uint8), bytes=int(np.prod(packed)), raw=kind)

    def numbers(self, gguf: ModuleType, values: Tensor) -> Any:
        """Return what is stored."""
        wide = values.detach().to("cpu", torch.float32).contiguous().numpy()
        return wide.astype(self.dtype) if self.raw is None else gguf.quants.quantize(wide, self.raw)


def _describe(writer: Any, config: JambaConfig, quantization: str, name: str) -> None:
    """Write what llama.cpp has to know of the model beside its weights."""
    writer.add_name(name)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(  # 0 tells llama.cpp that the layer is Mamba
        [config.num_key_value_heads if kind == "attention" else 0 for kind in config.layers_block_type]
    )
    writer.add_ssm_conv_kernel(config.mamba_d_conv)
    writer.add_ssm_inner_size(config.mamba_expand * config.hidden_size)
    writer.add_ssm_state_size(config.mamba_d_state)
    writer.add_ssm_time_step_rank(config.mamba_dt_rank)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    # Without experts llama.cpp wants none, and none used: it ends the process otherwise.
    experts = config.num_experts if config.num_experts > 1 else 0
    writer.add_expert_count(experts)
    writer.add_expert_used_count(min(config.num_experts_per_tok, experts))
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(FILE_TYPES[quantization])


def _layer_tensors(
    layer: dict[str, Tensor], kind: str, experts: int, inner: int
) -> Iterator[tuple[str, Tensor]]:
    yield "attn_norm.weight", layer["input_layernorm.weight"]
    yield "ffn_norm.weight", layer["pre_ff_layernorm.weight"]
    if kind == "attention":
        for ours, theirs in _ATTENTION.items():
            yield theirs, layer[f"self_attn.{ours}"]
    else:
        for ours, theirs in _MAMBA.items():
            yield theirs, layer[f"mamba.{ours}"]
        yield "ssm_conv1d.weight", layer["mamba.conv1d.weight"].squeeze(1)
        yield "ssm_a", -torch.exp(layer["mamba.A_log"].float())
    if experts == 1:
        for ours, theirs in _DENSE.items():
            yield theirs, layer[f"feed_forward.{ours}"]
    else:
        both = layer["feed_forward.experts.gate_up_proj"]
        yield "ffn_gate_inp.weight", layer["feed_forward.router.weight"]
        yield "ffn_gate_exps.weight", both[:, :inner]
        yield "ffn_up_exps.weight", both[:, inner:]
        yield "ffn_down_exps.weight", layer["feed_forward.experts.down_proj"]
