"""Loading a model folder: what is right loads, what is wrong is one clear error before anything is read."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from spellbound.engine import load_model
from spellbound.engine.loading import weight_count
from spellbound.errors import ModelError
from spellbound.jamba import JambaForCausalLM
from tests.conftest import make_model

# PEFT asks transformers for a name that transformers has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

IDS_BT = torch.arange(4, 40)[None]


def logits(model: JambaForCausalLM) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS_BT).logits
    return found


def test_loads_the_weights(tiny_folder: Path, tiny_model: JambaForCausalLM) -> None:
    model = load_model(tiny_folder, device="cpu")
    assert model.dtype == torch.float32
    torch.testing.assert_close(logits(model), logits(tiny_model))


def test_dtype(tiny_folder: Path) -> None:
    assert load_model(tiny_folder, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "mps", ""])
def test_bad_device(tiny_folder: Path, device: str) -> None:
    with pytest.raises(ModelError, match=f"device '{device}' is"):
        load_model(tiny_folder, device=device)


def test_bad_dtype(tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match="dtype 'int4' is unknown; give auto, float32"):
        load_model(tiny_folder, device="cpu", dtype="int4")


def test_too_large_is_refused_with_the_numbers(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=2**10))
    with pytest.raises(ModelError, match=r"take 0\.0 GiB as float32 and 0\.0 GiB are free on cpu"):
        load_model(tiny_folder, device="cpu")


def test_weights_are_counted_from_the_headers(tiny_folder: Path, tiny_model: JambaForCausalLM) -> None:
    assert weight_count(tiny_folder) == sum(weight.numel() for weight in tiny_model.parameters())


def test_shards(tiny_folder: Path, tiny_model: JambaForCausalLM, tmp_path: Path) -> None:
    tiny_model.save_pretrained(tmp_path, max_shard_size="30KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert weight_count(tmp_path) == weight_count(tiny_folder)
    torch.testing.assert_close(logits(load_model(tmp_path, device="cpu")), logits(tiny_model))
    next(iter(sorted(tmp_path.glob("*.safetensors")))).unlink()
    with pytest.raises(ModelError, match="is missing"):
        load_model(tmp_path, device="cpu")


def test_a_file_written_over_changes_no_loaded_model(
    tiny_folder: Path, tiny_model: JambaForCausalLM, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    loaded = load_model(folder, device="cpu")
    file = folder / "model.safetensors"
    file.write_bytes(bytes(file.stat().st_size))
    for mine, theirs in zip(loaded.parameters(), tiny_model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_missing_tensors(tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_folder / "config.json", tmp_path)
    weights = load_file(tiny_folder / "model.safetensors")
    del weights["model.final_layernorm.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack 1 tensors, the first is 'model\.final_layernorm\.weight'"):
        load_model(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_hidden_layers": 3}, "config.json has no place for"),
        ({"num_hidden_layers": 5}, "the weights lack 17 tensors"),
        ({"hidden_size": "wide"}, "cannot be loaded"),
        ({"hidden_act": "gelu"}, "cannot be loaded: hidden_act is 'gelu'"),
        ({"layers_block_type": ["mamba"]}, "cannot be loaded"),
        ({"dtype": "zzz"}, "cannot be loaded"),
    ],
)
def test_a_config_that_does_not_fit(
    tiny_folder: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    config = json.loads((tiny_folder / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}), encoding="utf-8")
    shutil.copy(tiny_folder / "model.safetensors", tmp_path)
    with pytest.raises(ModelError, match=message):
        load_model(tmp_path, device="cpu")


@pytest.mark.parametrize("content", ['{"weight_map": []}', '{"weight_map": {}}', "{}"])
def test_an_index_that_names_nothing(tiny_folder: Path, tmp_path: Path, content: str) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny_folder / name, tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match="weight_map names no files"):
        load_model(tmp_path, device="cpu")


def test_weights_in_pickles_are_not_read(tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_folder / "config.json", tmp_path)
    torch.save(load_file(tiny_folder / "model.safetensors"), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        load_model(tmp_path, device="cpu")


def test_weights_of_another_shape(tiny_folder: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_folder / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 64}), encoding="utf-8")
    shutil.copy(tiny_folder / "model.safetensors", tmp_path)
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(tmp_path, device="cpu")


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    wrapped = get_peft_model(
        make_model(), LoraConfig(r=2, target_modules=["q_proj", "in_proj"], init_lora_weights=False)
    )
    wrapped.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_adapter_is_merged(tiny_folder: Path, tiny_model: JambaForCausalLM, adapter: Path) -> None:
    from peft import PeftModel

    model = load_model(tiny_folder, device="cpu", adapter=adapter)
    assert isinstance(model, JambaForCausalLM)
    wanted = logits(PeftModel.from_pretrained(make_model(), adapter))
    torch.testing.assert_close(logits(model), wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(wanted, logits(tiny_model), atol=1e-3)


def test_adapter_folder_without_an_adapter(tiny_folder: Path) -> None:
    with pytest.raises(ModelError, match=r"adapter_config\.json is missing"):
        load_model(tiny_folder, device="cpu", adapter=tiny_folder)


def test_adapter_that_fits_only_in_part(tiny_folder: Path, adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    weights["base_model.model.model.layers.9.mamba.in_proj.lora_A.weight"] = torch.zeros(2, 32)
    save_file(weights, file)
    with pytest.raises(ModelError, match=r"tensors apply; the first that does not is '.*layers\.9"):
        load_model(tiny_folder, device="cpu", adapter=adapter)


def test_adapter_of_another_model(tiny_folder: Path, adapter: Path) -> None:
    config = adapter / "adapter_config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    config.write_text(json.dumps({**settings, "target_modules": ["c_attn"]}), encoding="utf-8")
    with pytest.raises(ModelError, match="the adapter does not fit the model"):
        load_model(tiny_folder, device="cpu", adapter=adapter)
