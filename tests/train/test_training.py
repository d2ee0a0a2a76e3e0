"""Whole runs of the tiny model: what they learn and leave; processes and turns make no difference."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from spellbound.errors import InputError
from spellbound.jamba import JambaForCausalLM
from spellbound.train.prepared import order_of, prepared
from spellbound.train.recipe_file import read_recipe, recipe_from
from spellbound.train.run import train


def say(text: str) -> None:
    """Say nothing; a function of a module, for it goes to other processes."""


def run(values: dict[str, Any], folder: Path | None = None, *, resume: bool = False) -> Path:
    if folder is not None:
        values["run"]["folder"] = str(folder)
    train(recipe_from(values, "test"), resume=resume, say=say)
    return Path(values["run"]["folder"])


def entries(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_training_learns_and_leaves_a_model_that_loads(values: dict[str, Any]) -> None:
    values["schedule"] |= {"steps": 12, "rate": 5e-3}
    folder = run(values)
    valid = [entry["valid"] for entry in entries(folder) if "valid" in entry]
    assert valid[-1] < valid[0]
    assert [entry["step"] for entry in entries(folder) if "loss" in entry] == [1, 2, 4, 6, 8, 10, 12]
    model = JambaForCausalLM.from_pretrained(folder / "model")
    assert model.dtype == torch.float32
    assert (folder / "model" / "chat_template.jinja").is_file()
    assert read_recipe(folder / "recipe.toml") == recipe_from(values, "test")
    assert [each.name for each in sorted((folder / "checkpoints").iterdir())] == [
        "step-00000011",
        "step-00000012",
    ]


@pytest.mark.parametrize("batching", ["packed", "padded"])
def test_turns_and_processes_make_no_difference(
    values: dict[str, Any], tmp_path: Path, batching: str
) -> None:
    values["data"]["batching"] = batching
    values["schedule"] |= {"steps": 4, "batch": 3}
    ways = [(1, 0), (1, 1), (2, 1)] if batching == "packed" else [(1, 0), (2, 0)]
    folders = []
    for processes, rows in ways:
        values["run"]["processes"] = processes
        values["compute"]["rows"] = rows
        folders.append(run(values, tmp_path / f"{processes}-{rows}"))
    first, *others = [load_file(folder / "model/model.safetensors") for folder in folders]
    for other in others:
        for name, weight in first.items():
            # AdamW makes a whole step of a gradient that is nearly nothing, whatever its sign.
            assert float((weight - other[name]).abs().mean()) < 1e-5, name
    logs = [
        [(entry["step"], entry["tokens"], entry.get("loss", 0.0)) for entry in entries(each)]
        for each in folders
    ]
    for log in logs[1:]:
        for found, wanted in zip(log, logs[0], strict=True):
            assert found[:2] == wanted[:2]
            assert found[2] == pytest.approx(wanted[2], rel=1e-4)


@pytest.mark.parametrize(("processes", "rows"), [(1, 0), (1, 1), (2, 1)])
def test_a_step_has_the_gradient_of_one_whole_batch(
    values: dict[str, Any], tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, processes: int, rows: int
) -> None:
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")  # of somebody's configuration
    values["schedule"] |= {"steps": 1, "batch": 5}  # no multiple of the processes
    values["optimizer"] = {"clip": 0.0}
    values["compute"]["rows"] = rows
    values["run"] |= {"processes": processes}
    recipe = recipe_from(values, "test")
    told = entries(run(values))[0]
    _, dataset = prepared(recipe)
    _, samples = order_of(recipe, dataset).at(0)
    model, nats, weight = JambaForCausalLM.from_pretrained(tiny_folder), torch.zeros(()), 0.0
    # Sample by sample, so that packing, padding and turns have no part in it.
    for sample in dataset.train.samples[np.concatenate(samples)]:
        ids = torch.tensor(dataset.train.ids[sample["start"] :][: sample["length"]].astype(np.int64))[None]
        given = int(sample["given"])
        scores = model(ids).logits[0, given - 1 : -1].log_softmax(-1)
        nats = nats - float(sample["weight"]) * scores.gather(1, ids[0, given:, None]).sum()
        weight += float(sample["weight"]) * (ids.shape[1] - given)
    (nats / weight).backward()
    norm = torch.stack([each.grad.norm() for each in model.parameters() if each.grad is not None]).norm()
    assert told["loss"] == pytest.approx(float(nats.detach()) / weight, rel=1e-4)
    assert told["norm"] == pytest.approx(float(norm), rel=1e-3)


def test_a_run_from_a_config_begins_with_its_seed(
    values: dict[str, Any], tiny_folder: Path, tmp_path: Path
) -> None:
    values["schedule"]["steps"] = 1
    made: dict[str, torch.Tensor] = {}
    for seed in (1, 1, 2):
        values["model"] = {
            "config": str(tiny_folder / "config.json"),
            "tokenizer": str(tiny_folder),
            "seed": seed,
        }
        torch.manual_seed(len(made))  # what was drawn before must not matter
        folder = run(values, tmp_path / f"{seed}-{len(made)}")
        made[folder.name] = load_file(folder / "model/model.safetensors")["model.embed_tokens.weight"]
    same, again, other = made.values()
    assert torch.equal(same, again)
    assert not torch.equal(same, other)


def test_a_folder_that_is_not_empty_is_refused(values: dict[str, Any]) -> None:
    values["schedule"]["steps"] = 1
    run(values)
    with pytest.raises(InputError, match=r"is not empty .* go on with --resume, or give another run\.folder"):
        run(values)


def test_resuming_with_another_recipe_or_other_data_says_what_differs(
    values: dict[str, Any], tmp_path: Path
) -> None:
    values["schedule"]["steps"] = 1
    data = tmp_path / "examples.jsonl"
    data.write_bytes(Path(values["data"]["examples"][0]["path"]).read_bytes())
    values["data"]["examples"][0]["path"] = str(data)
    run(values)
    values["run"]["keep"] = 7  # of no account
    run(values, resume=True)
    values["schedule"]["rate"] = 0.5
    with pytest.raises(InputError, match=r"schedule\.rate was 0\.001 and is 0\.5"):
        run(values, resume=True)
    values["schedule"]["rate"] = 1e-3
    lines = data.read_bytes().splitlines(keepends=True)
    data.write_bytes(b"".join(lines[:-1]))
    with pytest.raises(InputError, match=r"other data: examples\.jsonl \(train 0\) changed"):
        run(values, resume=True)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_loss_that_is_not_finite_stops_the_run(
    values: dict[str, Any], tiny_folder: Path, tmp_path: Path, processes: int
) -> None:
    values["run"]["processes"] = processes
    model = JambaForCausalLM.from_pretrained(tiny_folder)
    with torch.no_grad():
        model.model.final_layernorm.weight.fill_(float("nan"))
    model.save_pretrained(tmp_path / "broken")
    values["model"] = {"base": str(tmp_path / "broken"), "tokenizer": str(tiny_folder)}
    with pytest.raises(InputError, match=r"loss nan, .* at step 1 of .*; give a lower schedule\.rate"):
        run(values)
