"""Merged folders that transformers loads, GGUF files with every number in its place, tokenizers in words of
llama.cpp."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer
from transformers import JambaForCausalLM as TransformersJamba

from spellbound.engine import load_model
from spellbound.errors import InputError, ModelError
from spellbound.jamba.lora import adapter_parameters, merge_adapter, save_adapter
from spellbound.train.export import export_adapter, export_gguf, export_model, require_new_folder
from spellbound.train.gguf_tokenizer import Vocabulary
from tests.conftest import make_model, write_tokenizer
from tests.jamba.adapters import adapted
from tests.jamba.models import ours, relative_error, tokens

IDS = tokens(2, 17)


def test_a_merged_model_loads_in_transformers(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for file in tiny_folder.glob("*token*"):
        (tmp_path / "source" / file.name).write_bytes(file.read_bytes())
    (tmp_path / "source" / "README.md").write_text("# Tiny", encoding="utf-8")
    model = adapted(make_model(), "experts", "in_proj", "dt_proj", "router")
    with torch.no_grad():
        expected = model(IDS).logits
    merge_adapter(model)
    written = export_model(model, tmp_path / "source", tmp_path / "out")
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md"} <= {
        file.name for file in written
    }
    theirs = TransformersJamba.from_pretrained(tmp_path / "out").eval()
    with torch.no_grad():
        assert relative_error(theirs(IDS).logits, expected) < 1e-5
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("bell").input_ids
    assert load_model(tmp_path / "out", device="cpu").config.tie_word_embeddings
    with pytest.raises(InputError, match="out: is not empty; give a new folder"):
        export_model(model, tmp_path / "source", tmp_path / "out")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_each_weight_keeps_its_dtype(dtype: torch.dtype, tmp_path: Path) -> None:
    base = ours().to(dtype)
    base.model.final_layernorm.float()
    base.save_pretrained(tmp_path / "base")
    model = load_model(tmp_path / "base", device="cpu", dtype=str(dtype).removeprefix("torch."))
    adapted(model, "q_proj")
    merge_adapter(model)
    export_model(model, tmp_path / "base", tmp_path / "out")
    before, after = (load_file(tmp_path / folder / "model.safetensors") for folder in ("base", "out"))
    assert before.keys() == after.keys()
    changed = [name for name, weight in before.items() if not torch.equal(after[name], weight)]
    assert changed == ["model.layers.1.self_attn.q_proj.weight"]
    assert {name: weight.dtype for name, weight in after.items()} == {
        name: weight.dtype for name, weight in before.items()
    }


def test_a_folder_has_to_be_new(tmp_path: Path) -> None:
    require_new_folder(tmp_path)
    (tmp_path / "mine").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="is a file; give the name of a folder"):
        require_new_folder(tmp_path / "mine")


def test_an_adapter_written_anew(tmp_path: Path) -> None:
    model = adapted(ours(), "experts")
    save_adapter(model, tmp_path / "old", base_name="old")
    again = ours()
    export_adapter(again, tmp_path / "old", tmp_path / "new", base_name="new")
    for name, parameter in adapter_parameters(model).items():
        torch.testing.assert_close(
            adapter_parameters(again)[name].detach(), parameter.detach(), rtol=0, atol=0
        )
    config = json.loads((tmp_path / "new" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == "new"


@pytest.mark.parametrize("quantization", ["F32", "F16", "Q8_0"])
def test_gguf_holds_every_number(quantization: str, tmp_path: Path) -> None:
    model, file = ours(), tmp_path / "tiny.gguf"
    assert export_gguf(model, tmp_path, file, quantization=quantization, name="tiny") is None
    reader = gguf.GGUFReader(file)
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert sum(int(tensor.n_elements) for tensor in reader.tensors) == model.num_parameters()
    experts = model.state_dict()["model.layers.1.feed_forward.experts.gate_up_proj"].numpy()
    tensor = found["blk.1.ffn_up_exps.weight"]
    assert tensor.tensor_type.name == quantization
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).reshape(4, 48, 32)
    limit = {"F32": 0, "F16": 1e-3, "Q8_0": 1e-2}[quantization]
    assert np.abs(values - experts[:, 48:]).max() <= limit * np.abs(experts).max()
    # No multiple of 32 in a row: what Q8_0 cannot pack is stored as F16.
    assert found["blk.0.ssm_x.weight"].tensor_type.name == quantization
    assert found["blk.0.ssm_dt.weight"].tensor_type.name == (
        "F16" if quantization == "Q8_0" else quantization
    )
    assert found["blk.1.ffn_gate_inp.weight"].tensor_type.name == "F32"
    assert reader.fields["tokenizer.ggml.model"].contents() == "no_vocab"


def test_an_unknown_type_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="GGUF type 'Q4_K' is unknown; give F32, F16, Q8_0"):
        export_gguf(ours(), tmp_path, tmp_path / "x.gguf", quantization="Q4_K", name="tiny")
    assert not list(tmp_path.iterdir())


def test_a_byte_level_tokenizer_in_gguf(tiny_folder: Path, tmp_path: Path) -> None:
    model, file = make_model(), tmp_path / "tiny.gguf"
    vocabulary = export_gguf(model, tiny_folder, file, quantization="F32", name="tiny")
    assert vocabulary is not None
    fields = gguf.GGUFReader(file).fields
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    stored = fields["tokenizer.ggml.tokens"].contents()
    assert stored[: len(tokenizer)] == tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    assert stored[len(tokenizer) :] == [f"[PAD{place}]" for place in range(len(tokenizer), 320)]
    kinds = fields["tokenizer.ggml.token_type"].contents()
    assert kinds[:5] == [3, 3, 3, 3, 1]
    assert kinds[tokenizer.convert_tokens_to_ids("</quote>")] == 4
    assert kinds[-1] == 5
    assert fields["tokenizer.ggml.bos_token_id"].contents() == tokenizer.bos_token_id
    assert fields["tokenizer.ggml.eos_token_id"].contents() == tokenizer.eos_token_id
    assert fields["tokenizer.chat_template"].contents() == tokenizer.chat_template
    assert fields["tokenizer.ggml.add_bos_token"].contents() is False


def tokenizer_json(**changes: Any) -> dict[str, Any]:
    """A tokenizer such as Jamba's: BPE over pieces of text, with a token for each byte."""
    pieces = ["<unk>", "<s>", "<0x0A>", "<0x41>", "▁", "a", "b", "ab", "▁ab"]
    return {
        "added_tokens": [{"content": "<s>", "id": 1, "special": True}, {"content": "<q>", "id": 10}],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}]},
        "pre_tokenizer": None,
        "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}]},
        "model": {
            "type": "BPE",
            "byte_fallback": True,
            "unk_token": "<unk>",
            "vocab": {piece: place for place, piece in enumerate(pieces)},
            "merges": [["a", "b"], ["▁", "ab"]],
        },
        **changes,
    }


def written(folder: Path, content: object) -> Path:
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    settings = {"bos_token": {"content": "<s>"}, "unk_token": "<unk>", "eos_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def test_a_tokenizer_with_byte_tokens(tmp_path: Path) -> None:
    found = Vocabulary.of(written(tmp_path, tokenizer_json()))
    assert found is not None
    assert (found.model, found.exact, found.adds_start, found.prefix_space) == ("llama", True, True, True)
    assert found.kinds == (2, 3, 6, 6, 1, 1, 1, 1, 1, 5, 4)
    assert found.tokens[9:] == ("[PAD9]", "<q>")
    assert found.scores[7] == 0.0
    assert found.scores[8] == -1.0
    assert found.ids == {"bos": 1, "unk": 0}
    assert found.merges == ()


def test_the_token_that_ends_a_turn_is_told_to_llama_cpp(tmp_path: Path) -> None:
    folder = written(tmp_path, tokenizer_json())
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 9]}', encoding="utf-8")
    settings = {"bos_token": "<s>", "eos_token": "<0x0A>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    found = Vocabulary.of(folder)
    assert found is not None
    assert found.ids == {"bos": 1, "eos": 2, "eot": 9}
    export_gguf(ours(), folder, tmp_path / "x.gguf", quantization="F32", name="tiny")
    fields = gguf.GGUFReader(tmp_path / "x.gguf").fields
    assert fields["tokenizer.ggml.eot_token_id"].contents() == 9
    (folder / "generation_config.json").write_text('{"eos_token_id": 2}', encoding="utf-8")
    again = Vocabulary.of(folder)
    assert again is not None
    assert "eot" not in again.ids


def test_a_start_token_in_a_row_of_processors_is_found(tmp_path: Path) -> None:
    steps = [{"type": "ByteLevel"}, tokenizer_json()["post_processor"]]
    row = {"type": "Sequence", "processors": steps}
    found = Vocabulary.of(written(tmp_path, tokenizer_json(post_processor=row)))
    assert found is not None
    assert found.adds_start


@pytest.mark.parametrize(
    ("cut", "expected"),
    [
        ({"type": "ByteLevel", "use_regex": True}, ("gpt-2", True)),
        ({"type": "ByteLevel", "use_regex": False}, ("gpt-2", False)),
        (
            {
                "type": "Sequence",
                "pretokenizers": [
                    {"type": "Split", "pattern": {"Regex": "[a-z]+"}},
                    {"type": "ByteLevel", "use_regex": False},
                ],
            },
            ("qwen2", False),
        ),
    ],
)
def test_how_text_is_cut(cut: dict[str, Any], expected: tuple[str, bool], tmp_path: Path) -> None:
    found = Vocabulary.of(written(tmp_path, tokenizer_json(pre_tokenizer=cut)))
    assert found is not None
    assert (found.model, found.cut, found.exact) == ("gpt2", *expected)
    assert found.merges == ("a b", "▁ ab")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": {"type": "WordPiece", "vocab": {"a": 0}}}, "is a WordPiece tokenizer without bytes"),
        (tokenizer_json(model={"type": "BPE", "vocab": {"a": 0}}), "is a BPE tokenizer without bytes"),
        ({}, "tokenizer.json: cannot be read: 'model'"),
        ([], "cannot be read"),
    ],
)
def test_a_tokenizer_that_llama_cpp_cannot_have(content: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        Vocabulary.of(written(tmp_path, content))


def test_no_tokenizer_is_no_error(tmp_path: Path) -> None:
    assert Vocabulary.of(tmp_path) is None
    write_tokenizer(tmp_path)
    assert Vocabulary.of(tmp_path) is not None
