"""FSDP2 on two processes of the CPU: the same result as one process, whole checkpoints, whole adapters."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from spellbound.train import checkpoints, launch
from spellbound.train.dataset import prepare
from spellbound.train.encoding import Encoder
from spellbound.train.recipe_file import recipe_from
from tests.train import sharded


@pytest.mark.parametrize("lora", [False, True])
def test_shards_train_and_save_as_one_piece(
    values: dict[str, Any], tmp_path: Path, tiny_folder: Path, lora: bool
) -> None:
    encoder = Encoder(tiny_folder)
    prepare(recipe_from(values, "test").data, encoder, tmp_path / "tokens", lambda name, read: None)
    (made,) = (tmp_path / "tokens").iterdir()
    launch.several(sharded.work, 2, tiny_folder, made / "train", tmp_path, lora)
    found = load_file(tmp_path / "parameters.safetensors")
    model = sharded.load(tiny_folder, lora=lora)
    optimizer = sharded.steps(model, made / "train", 2)
    expected = checkpoints.take(model, optimizer)
    assert found.keys() == expected.parameters.keys()
    for name, value in expected.parameters.items():
        # AdamW makes a whole step of a gradient that is nearly nothing, whatever its sign.
        assert float((found[name] - value).abs().mean()) < 1e-5, name
    moments = load_file(tmp_path / "moments.safetensors")
    assert moments.keys() == expected.moments.keys()
    for name, value in expected.moments.items():
        assert torch.allclose(moments[name], value, rtol=1e-3, atol=1e-5), name
    assert lora == (tmp_path / "adapter" / "adapter_model.safetensors").is_file()
