"""LoRA runs: the plan is said, only adapters learn, what cannot learn stops the run, resume is exact."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from spellbound.errors import InputError, ModelError
from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.lora import load_adapter
from spellbound.train import adapters
from spellbound.train.recipe import AdapterSettings
from spellbound.train.recipe_file import recipe_from
from spellbound.train.run import train
from tests.train.test_resume import assert_equal, begin, kill_when, seen
from tests.train.test_training import entries, run

EVERYTHING = ["in_proj", "x_proj", "dt_proj", "out_proj", "q_proj", "k_proj", "v_proj", "o_proj"]
EVERYTHING += ["gate_proj", "up_proj", "down_proj", "router"]


@pytest.fixture
def lora(values: dict[str, Any]) -> dict[str, Any]:
    """A recipe that trains adapters on everything there is."""
    values["method"] = "lora"
    values["adapter"] = {"rank": 2, "dropout": 0.1, "targets": EVERYTHING}
    values["schedule"] |= {"steps": 6, "rate": 1e-2, "warmup": 0.0}
    return values


def test_an_adapter_learns_loads_and_leaves_the_base_alone(
    lora: dict[str, Any], tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(recipe_from(lora, "test"), resume=False, say=print)
    told = capsys.readouterr().out
    assert re.search(r"router +router", told)
    assert re.search(r"\d+ adapters, [\d,]+ numbers", told)
    folder = Path(lora["run"]["folder"])
    losses = [entry["valid"] for entry in entries(folder) if "valid" in entry]
    assert losses[-1] < losses[0]
    model = JambaForCausalLM.from_pretrained(tiny_folder)
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        before = model(ids).logits
        load_adapter(model, folder / "adapter")
        assert not torch.allclose(model(ids).logits, before)
    kept = load_file(folder / "checkpoints/step-00000006/parameters.safetensors")
    assert all("lora_" in name for name in kept)
    assert not (folder / "model").exists()


def test_a_killed_lora_run_ends_as_an_unbroken_one_dropout_included(
    lora: dict[str, Any], tmp_path: Path
) -> None:
    whole, broken = run(lora, tmp_path / "whole"), tmp_path / "broken"
    kill_when(begin(lora, broken, resume=False), seen(broken, "checkpoints/step-00000001"))
    kill_when(begin(lora, broken, resume=True), seen(broken, "checkpoints/step-00000003"))
    run(lora, broken, resume=True)
    assert_equal(whole, broken, "adapter/adapter_model.safetensors")


def test_a_target_that_matches_nothing_is_an_error(lora: dict[str, Any]) -> None:
    lora["adapter"]["targets"] = ["q_proj", "w_proj"]
    with pytest.raises(ModelError, match="w_proj"):
        run(lora)


def test_an_adapter_without_a_gradient_stops_the_run_and_is_named(tiny_model: JambaForCausalLM) -> None:
    import copy

    model, watch = copy.deepcopy(tiny_model).train(), adapters.Watch()
    adapters.attach(model, AdapterSettings(rank=2, targets=("q_proj", "in_proj")), 0)
    for step in range(adapters.STEPS):
        # What comes after the last attention layer alone has no use for q_proj.
        hidden = model.model.layers[0](model.model.embed_tokens(torch.arange(3, 9)[None]), None, None)
        hidden.square().sum().backward()
        watch.look(model)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name.endswith("lora_B"):
                    weight += 0.1 * (step + 1)
    with pytest.raises(InputError, match=r"had no gradient in 2 steps, the first is '.*lora_A'"):
        watch.require_all(model)


def test_gradient_checkpointing_trains_the_same_adapter(lora: dict[str, Any], tmp_path: Path) -> None:
    lora["schedule"]["steps"] = 3
    folders = []
    for twice in (False, True):
        lora["compute"]["gradient_checkpointing"] = twice
        folders.append(run(lora, tmp_path / str(twice)))
    one, other = (load_file(folder / "adapter/adapter_model.safetensors") for folder in folders)
    for name, value in one.items():
        assert torch.allclose(value, other[name], atol=1e-5), name
