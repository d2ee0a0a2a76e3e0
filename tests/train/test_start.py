"""Where weights come from, how fast they move, and which of them decay."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from spellbound.errors import InputError, ModelError
from spellbound.train import start
from spellbound.train.devices import new_accelerator
from spellbound.train.recipe import ComputeSettings, Recipe, ScheduleSettings
from spellbound.train.recipe_file import recipe_from
from spellbound.train.run import train
from spellbound.train.schedule import rate_at
from tests.conftest import VOCABULARY, write_tokenizer
from tests.jamba.models import config, ours
from tests.train.test_training import run, say

CPU = torch.device("cpu")


def test_a_fresh_model_follows_from_its_seed_alone() -> None:
    torch.manual_seed(1)
    one = start.fresh_model(config(), 7).state_dict()
    torch.rand(5)
    drawn = torch.get_rng_state()
    again, other = start.fresh_model(config(), 7).state_dict(), start.fresh_model(config(), 8).state_dict()
    assert torch.equal(torch.get_rng_state(), drawn)  # what others draw is not disturbed
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_file_written_over_changes_no_loaded_model(tmp_path: Path) -> None:
    wanted, file = ours(), tmp_path / "model.safetensors"
    wanted.save_pretrained(tmp_path)
    loaded = start.load_weights(tmp_path, torch.float32, torch.device("cpu"))
    file.write_bytes(bytes(file.stat().st_size))
    for mine, theirs in zip(loaded.parameters(), wanted.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_only_matrices_decay() -> None:
    model = ours()
    decaying, still = start.parameter_groups(model, 0.1)
    names = {id(weight): name for name, weight in model.named_parameters()}
    assert (decaying["weight_decay"], still["weight_decay"]) == (0.1, 0.0)
    assert sum(len(group["params"]) for group in (decaying, still)) == len(names)
    kept = {names[id(weight)].rsplit(".", 2)[-2] for weight in still["params"]}
    assert {"dt_proj", "conv1d", "input_layernorm"} <= kept
    assert all(weight.dim() >= 2 for weight in decaying["params"])


@pytest.mark.parametrize(
    ("file", "message"), [("config.json", "config.json"), ("model.safetensors", "loaded")]
)
def test_a_base_that_lacks_something(
    recipe: Recipe, tiny_folder: Path, tmp_path: Path, file: str, message: str
) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    for each in tiny_folder.iterdir():
        if each.name != file:
            (folder / each.name).write_bytes(each.read_bytes())
    values = recipe_from({**_values(recipe), "model": {"base": str(folder)}}, "test")
    with pytest.raises(ModelError, match=message):
        train(values, resume=False, say=say)


def _values(recipe: Recipe) -> dict[str, Any]:
    from spellbound.train.recipe_file import as_values

    return as_values(recipe)


def test_weights_that_do_not_fit_the_config_are_named(
    recipe: Recipe, tiny_folder: Path, tmp_path: Path
) -> None:
    settings = json.loads((tiny_folder / "config.json").read_text())
    for change in ({"num_hidden_layers": 6}, {"num_hidden_layers": 2}):
        folder = tmp_path / str(change["num_hidden_layers"])
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({**settings, **change}))
        (folder / "model.safetensors").write_bytes((tiny_folder / "model.safetensors").read_bytes())
        with pytest.raises(ModelError, match=r"the weights (lack|hold) .*layers"):
            start.start_model(recipe, folder, CPU)


def test_a_tokenizer_of_another_model_is_refused(
    values: dict[str, Any], tmp_path: Path, tiny_folder: Path
) -> None:
    settings = json.loads((tiny_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**settings, "vocab_size": VOCABULARY - 200}))
    write_tokenizer(tmp_path)
    values["model"] = {"config": str(tmp_path / "config.json"), "tokenizer": str(tmp_path)}
    with pytest.raises(ModelError, match="tokens and the model 120; they do not belong together"):
        run(values)


@pytest.mark.parametrize("shape", ["cosine", "linear", "constant"])
def test_the_rate_rises_then_falls_to_its_floor(shape: Any) -> None:
    settings = ScheduleSettings(rate=0.1, warmup=0.1, shape=shape, floor=0.2)
    rates = [rate_at(settings, step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[9] == pytest.approx(0.1)
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.1 if shape == "constant" else 0.02)


def test_without_warmup_the_first_step_has_the_whole_rate() -> None:
    assert rate_at(ScheduleSettings(rate=0.1, warmup=0.0), 0, 10) == 0.1
    assert rate_at(ScheduleSettings(rate=0.1, warmup=0.03), 0, 3) == 0.1


def test_on_another_device_weights_are_made_there_and_in_their_number_format() -> None:
    drawn = start.fresh_model(config(), 7, torch.bfloat16, torch.device("meta"))
    assert {(weight.device.type, weight.dtype) for weight in drawn.parameters()} == {("meta", torch.bfloat16)}
    assert torch.get_default_dtype() == torch.float32


def test_fsdp_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(InputError, match=r"asks for FSDP, and there is no GPU: .*run\.processes"):
        new_accelerator(ComputeSettings())


def test_more_processes_than_a_machine_can_have_are_refused(values: dict[str, Any]) -> None:
    values["run"] = {**values.get("run", {}), "processes": 1_000_000}
    with pytest.raises(InputError, match=r"run\.processes is 1000000, with \d+ cores here; give \d+ at most"):
        train(recipe_from(values, "test"), resume=False, say=say)
