"""Models for others: a merged folder for transformers, an adapter for PEFT, a GGUF file for llama.cpp."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import safe_open

from spellbound.errors import InputError
from spellbound.files import replacing, replacing_folder
from spellbound.jamba.lora import load_adapter, save_adapter
from spellbound.jamba.storing import storing
from spellbound.train.gguf_file import gguf_package, require_quantization, write_gguf
from spellbound.train.gguf_tokenizer import Vocabulary

if TYPE_CHECKING:
    from spellbound.jamba import JambaForCausalLM

_DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
# What belongs to a model beside its weights and config.json.
_COMPANIONS = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
    "generation_config.json",
    "README*",
    "LICENSE*",
    "NOTICE*",
)


def export_model(model: JambaForCausalLM, source: Path, target: Path) -> list[Path]:
    """Write a model, its adapter merged, into a new folder, with the tokenizer and card of its ``source``.

    Weights are stored in the dtype that they have there. Returns the files written. Raises InputError where
    the folder is not empty.
    """
    require_new_folder(target)
    _narrow(model, source)
    with replacing_folder(target) as draft, storing():
        model.save_pretrained(draft)
        for pattern in _COMPANIONS:
            for companion in sorted(source.glob(pattern)):
                if companion.is_file():
                    shutil.copyfile(companion, draft / companion.name)
    return sorted(target.iterdir())


@torch.no_grad()
def _narrow(model: JambaForCausalLM, source: Path) -> None:
    """Give each weight the dtype of the stored one; A_log, for one, is loaded in float32 whatever it was."""
    weights = dict(model.named_parameters())
    for file in sorted(source.glob("*.safetensors")):
        with safe_open(file, framework="pt") as stored:
            for name in stored.keys():  # noqa: SIM118 (it is no dict)
                dtype = _DTYPES.get(stored.get_slice(name).get_dtype())
                if name in weights and dtype is not None:
                    weights[name].data = weights[name].data.to(dtype)


def export_adapter(model: JambaForCausalLM, adapter: Path, target: Path, *, base_name: str) -> None:
    """Write an adapter anew in the format that PEFT loads today, such as one of single experts.

    ``model`` is its base, without an adapter; afterwards the adapter is on. Raises ModelError for one that
    does not fit, InputError where the folder is not empty.
    """
    require_new_folder(target)
    load_adapter(model, adapter)
    save_adapter(model, target, base_name=base_name)


def export_gguf(
    model: JambaForCausalLM, source: Path, target: Path, *, quantization: str, name: str
) -> Vocabulary | None:
    """Write a GGUF file with the tokenizer of the ``source`` folder, which is returned if there is one.

    Raises InputError for an unknown ``quantization``, EnvironmentFault without the package gguf.
    """
    require_quantization(quantization)
    gguf_package()
    vocabulary = Vocabulary.of(source)
    with replacing(target) as draft:
        write_gguf(
            draft,
            model.config,
            model.state_dict(),
            quantization=quantization,
            name=name,
            vocabulary=vocabulary,
        )
    return vocabulary


def require_new_folder(target: Path) -> None:
    """Refuse a folder with something in it, of which parts would otherwise stay among what is written."""
    if target.exists() and not target.is_dir():
        raise InputError(f"{target}: is a file; give the name of a folder")
    if target.is_dir() and any(target.iterdir()):
        raise InputError(f"{target}: is not empty; give a new folder")
