"""llama.cpp computes what we compute from the files we write, and tokenises as the tokenizer does."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer

from spellbound.engine import load_model
from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.lora import merge_adapter
from spellbound.story.models import find_model
from spellbound.train.export import export_gguf
from tests.jamba.adapters import adapted
from tests.jamba.models import ours, tokens

_QUIET = llama_cpp.llama_log_callback(lambda *_: None)
TEXTS = [
    "The harbour was empty. Mara counted to 12,\nand listened.\n\n  “So it is.”",
    '<quote speaker="32AN4R">Hello!</quote> said Mara; <sound>a bell</sound> rang.',
    "Über die Brücke ging er nicht: «Não», dijo ella, ¿verdad?",
]


@contextmanager
def llama(path: Path) -> Iterator[tuple[Any, Any]]:
    """Yield llama.cpp's model and vocabulary."""
    llama_cpp.llama_log_set(_QUIET, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    given = llama_cpp.llama_model_default_params()
    given.use_extra_bufts = False  # laid out anew for AMX, matrices as narrow as these end the process
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), given)
    assert model
    yield model, llama_cpp.llama_model_get_vocab(model)
    llama_cpp.llama_model_free(model)


def read(path: Path, ids: list[int]) -> Tensor:
    """Return llama.cpp's logits (T, V) of every token."""
    with llama(path) as (model, vocabulary):
        wanted = llama_cpp.llama_context_default_params()
        wanted.n_ctx, wanted.n_batch, wanted.n_ubatch = 256, 256, 256
        wanted.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        wanted.type_k = wanted.type_v = 0  # float32
        wanted.n_threads = wanted.n_threads_batch = 1
        context = llama_cpp.llama_init_from_model(model, wanted)
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for place, token in enumerate(ids):
            batch.token[place], batch.pos[place] = token, place
            batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, 0, True
        assert llama_cpp.llama_decode(context, batch) == 0
        shape = (len(ids), llama_cpp.llama_vocab_n_tokens(vocabulary))
        logits = torch.from_numpy(
            np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), shape=shape).copy()
        )
        llama_cpp.llama_batch_free(batch)
        llama_cpp.llama_free(context)
    return logits


def spread(found: Tensor, wanted: Tensor) -> float:
    """Root mean square difference, relative to the spread of what is wanted."""
    return float((found - wanted).pow(2).mean().sqrt() / wanted.std())


def logits(model: JambaForCausalLM, ids_BT: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(ids_BT).logits[0].float()
    return found


@pytest.mark.parametrize(("quantization", "limit"), [("F32", 1e-5), ("F16", 1e-2), ("Q8_0", 0.2)])
def test_a_merged_adapter_in_llama_cpp(quantization: str, limit: float, tmp_path: Path) -> None:
    model = adapted(ours(hidden_size=64, intermediate_size=96, mamba_dt_rank=32))
    merge_adapter(model)
    ids = tokens(1, 40)
    file = tmp_path / "model.gguf"
    assert export_gguf(model, tmp_path, file, quantization=quantization, name="tiny") is None
    assert spread(read(file, ids[0].tolist()), logits(model, ids)) < limit


def test_a_model_without_experts(tmp_path: Path) -> None:
    model = ours(hidden_size=64, intermediate_size=96, mamba_dt_rank=32, num_experts=1)
    ids, file = tokens(1, 40), tmp_path / "model.gguf"
    assert export_gguf(model, tmp_path, file, quantization="F32", name="tiny") is None
    assert spread(read(file, ids[0].tolist()), logits(model, ids)) < 1e-5


def test_nano_with_its_tokenizer(tmp_path: Path) -> None:
    folder, file = find_model("nano"), tmp_path / "nano.gguf"
    model = load_model(folder, device="cpu")
    vocabulary = export_gguf(model, folder, file, quantization="F32", name="nano")
    assert vocabulary is not None
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenised(file, text) == ids
    assert spread(read(file, ids), logits(model, torch.tensor([ids]))) < 1e-4


def tokenised(file: Path, text: str) -> list[int]:
    raw, room = text.encode(), (llama_cpp.llama_token * 512)()
    with llama(file) as (_, vocabulary):
        count = llama_cpp.llama_tokenize(vocabulary, raw, len(raw), room, 512, False, True)
    return list(room[:count])
