"""The plan: what it says is kept is what is kept, and its peak is near the measured one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import JambaConfig

from spellbound.errors import InputError, ModelError
from spellbound.jamba import JambaForCausalLM
from spellbound.train.adapters import attach
from spellbound.train.loss import Learner
from spellbound.train.plan import Question, foresee, lines, rehearsal
from spellbound.train.plan.hardware import card
from spellbound.train.plan.memory import Heap, Memory, Spread, peak
from spellbound.train.plan.peak import forget, highest
from spellbound.train.plan.planning import spoken
from spellbound.train.plan.rehearsal import layers_for, rehearsed, rows_for
from spellbound.train.plan.saved import Formats, Step, operations
from spellbound.train.plan.shape import shape_of
from spellbound.train.plan.work import Load, operations_of, seconds_of
from spellbound.train.recipe import Recipe
from spellbound.train.recipe_file import recipe_from

EVERY = ["in_proj", "x_proj", "dt_proj", "out_proj", "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj"]
EVERY += ["up_proj", "down_proj"]
ENDS = ["embed_tokens", "lm_head", "router", "x_proj", "experts"]
ROWS, TIME, GIVEN = 2, 192, 96
SIZES: dict[str, Any] = {
    "vocab_size": 301,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "expert_layer_period": 3,
    "expert_layer_offset": 1,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "mamba_dt_rank": 5,
}
CONFIG = JambaConfig(**SIZES)


def given(targets: list[str] | None, **compute: Any) -> Recipe:
    """A recipe of full training, or of an adapter on these targets."""
    values: dict[str, Any] = {
        "method": "lora" if targets else "full",
        "model": {"base": "somewhere"},
        "data": {"examples": [{"path": "examples.parquet"}]},
        "run": {"folder": "run"},
        "compute": compute,
    }
    return recipe_from({**values, **({"adapter": {"targets": targets}} if targets else {})}, "test")


def kept(recipe: Recipe, dtype: torch.dtype, *, bf16: bool, packed: bool, head: int = 0) -> int:
    """Count what a forward pass keeps for the backward pass: every storage once, parameters not."""
    model = JambaForCausalLM(CONFIG).to(dtype)
    if recipe.method == "lora":
        attach(model, recipe.adapter, 0)
    model.train()
    if recipe.compute.gradient_checkpointing:
        model.activation_checkpointing_enable()
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    ids_BT = torch.randint(3, 300, (ROWS, TIME))
    targets_BT = ids_BT.clone()
    targets_BT[:, :GIVEN] = -100
    documents_BT = torch.arange(TIME).expand(ROWS, TIME) // 80 if packed else None
    storages: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    learner = Learner(model, head_tokens=head)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        nats, _ = learner(ids_BT, documents_BT, targets_BT, torch.ones(ROWS, TIME), torch.full((ROWS,), TIME))
    assert nats.isfinite()
    return sum(storage.nbytes() for storage in storages.values())


def foreseen(recipe: Recipe, formats: Formats, *, packed: bool) -> float:
    """What the plan says is kept."""
    step = Step(rows=ROWS, time=TIME, targets=ROWS * (TIME - GIVEN), packed=packed)
    layers, around = operations(shape_of(CONFIG, recipe), step, formats, 1 << 20)
    return sum(each.saved for layer in (*layers, around) for each in layer)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("targets", [None, EVERY, ["in_proj", "q_proj"], ENDS])
@pytest.mark.parametrize("kind", ["float32", "mixed", "bfloat16"])
def test_what_the_plan_says_is_kept_is_what_is_kept(
    kind: str, targets: list[str] | None, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPELLBOUND_BF16", "convert")  # rows are not filled up, whatever the processor
    recipe = given(targets)
    formats = Formats(weights=2 if kind == "bfloat16" else 4, products=4 if kind == "float32" else 2)
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    counted = kept(recipe, dtype, bf16=kind != "float32", packed=packed)
    assert foreseen(recipe, formats, packed=packed) == pytest.approx(counted, rel=0.003)


@pytest.mark.parametrize("kind", ["mixed", "bfloat16"])
def test_filled_up_rows_keep_little_more(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPELLBOUND_BF16", "native")
    recipe, formats = given(None), Formats(weights=2 if kind == "bfloat16" else 4, products=2)
    dtype = torch.bfloat16 if kind == "bfloat16" else torch.float32
    counted = kept(recipe, dtype, bf16=True, packed=True)
    said = foreseen(recipe, formats, packed=True)
    assert 0.997 * said < counted < 1.03 * said


def test_with_checkpointing_little_more_than_the_layers_inputs_is_kept() -> None:
    recipe = given(None, gradient_checkpointing=True)
    counted = kept(recipe, torch.float32, bf16=False, packed=False, head=32)
    step = Step(rows=ROWS, time=TIME, targets=ROWS * (TIME - GIVEN), packed=False)
    formats = Formats(weights=4, products=4)
    shape = shape_of(CONFIG, recipe)
    _, around = operations(shape, step, formats, 32)
    inputs = 4 * step.tokens * CONFIG.hidden_size * 4
    assert inputs + sum(each.saved for each in around) == pytest.approx(counted, rel=0.02)


def test_dropout_keeps_a_copy_and_a_mask() -> None:
    recipe = replace(given(EVERY), adapter=replace(given(EVERY).adapter, dropout=0.5))
    formats = Formats(weights=4, products=4, dropout=True)
    counted = kept(recipe, torch.float32, bf16=False, packed=True)
    assert foreseen(recipe, formats, packed=True) == pytest.approx(counted, rel=0.05)


def planned(recipe: Recipe, spread: Spread | None = None, **changes: Any) -> Memory:
    """The memory of some rows of the small model."""
    step = Step(rows=ROWS, time=TIME, targets=100)
    more = {"at_once": 64, "checkpointing": False, **changes}
    formats = Formats(weights=4, products=4)
    return peak(shape_of(CONFIG, recipe), step, formats, spread or Spread(), **more)


def test_terms_are_the_models_own_numbers() -> None:
    model = JambaForCausalLM(CONFIG)
    size = 4 * model.num_parameters()
    full = planned(given(None))
    assert full.terms["weights"] == size
    assert full.terms["AdamW's moments"] == 2 * size
    adapter = attach(model, given(EVERY).adapter, 0).total
    lora = planned(given(EVERY))
    assert (lora.terms["weights"], lora.terms["adapters"]) == (size, 4 * adapter)
    assert lora.total == sum(lora.terms.values()) < full.total


def test_files_count_beside_the_weights_that_are_copied_out_of_them() -> None:
    recipe = given(EVERY)
    plain, large = planned(recipe), planned(recipe, files=1e9)
    assert planned(recipe, files=1.0).terms == plain.terms
    assert large.moment == "loading"
    assert large.total == plain.terms["weights"] + 1e9


def test_a_heap_with_holes_takes_more_of_what_comes_and_goes() -> None:
    recipe = given(EVERY)
    plain = planned(recipe)
    few, many = (planned(recipe, heap=Heap(holes=share, first_use=1e3)) for share in (0.3, 0.7))
    assert few.total == plain.total + few.terms["holes in the heap"] + 1e3
    assert many.terms["holes in the heap"] == pytest.approx(few.terms["holes in the heap"] * 7 / 3)


def test_checkpointing_sharding_and_smaller_heads_need_less_and_accumulation_more() -> None:
    recipe = given(None)
    plain = planned(recipe)
    assert planned(recipe, checkpointing=True).total < plain.total
    assert planned(recipe, at_once=8).total < plain.total
    assert planned(recipe, turns=2).total > plain.total
    assert planned(recipe, fixed=1e6).total == plain.total + 1e6
    shared = planned(recipe, Spread(devices=8, sharding="fsdp"))
    assert shared.terms["weights"] == plain.terms["weights"] / 8
    assert planned(recipe, Spread(devices=8)).terms["weights"] == plain.terms["weights"]


def test_operations_are_two_a_weight_forwards_and_as_many_again_for_each_gradient() -> None:
    load = Load(tokens=100, padded=100, targets=100, squares=0.0, steps=1, passes=1)
    dense = JambaConfig(**{**SIZES, "num_experts": 1})
    recipe = given(None)
    counted = operations_of(shape_of(dense, recipe), load, checkpointing=False, head_twice=False)
    model = JambaForCausalLM(dense)
    matrices = [
        weight.numel()
        for name, weight in model.named_parameters()
        if name.endswith("proj.weight") or name == "lm_head.weight"
    ]
    assert sum(counted.values()) == 100 * 6 * sum(matrices)
    again = operations_of(shape_of(dense, recipe), load, checkpointing=True, head_twice=True)
    assert sum(again.values()) == 100 * 8 * sum(matrices)


def test_jamba_mini_fits_one_large_card_and_shares_of_it_fit_eight_smaller_ones() -> None:
    folder = Path(__file__).parents[2] / "recipes"
    values = given(["in_proj", "gate_proj", "up_proj", "down_proj"], gradient_checkpointing=True, rows=1)
    recipe = replace(values, model=replace(values.model, dtype="bfloat16"))
    question = Question(device="h200", length=4096, config=folder / "jamba-mini.config.json")
    one = foresee(recipe, question)
    assert one.memory.terms["weights"] == 2 * 51_570_323_328
    assert one.fits
    assert not foresee(recipe, replace(question, device="h100")).fits
    eight = replace(question, device="h100", devices=8, sharding="fsdp")
    assert foresee(recipe, eight).fits
    told = "\n".join(lines(one))
    assert "it fits" in told
    assert "assumed: 58%" in told


def test_data_is_read_where_no_length_is_given(recipe: Recipe) -> None:
    plan = foresee(recipe, Question(device="h100"))
    assert plan.load.tokens > plan.load.targets > 0
    assert plan.step.time % 64 == 0
    assert plan.epochs * plan.load.steps == recipe.schedule.steps
    assert not (recipe.run.folder / "checkpoints").exists()


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"device": "abacus"}, "h200"),
        ({"devices": 0}, "devices is 0"),
        ({"sharding": "some"}, "fsdp"),
        ({"memory": -1.0}, "memory"),
        ({"device": "h100", "efficiency": 2.0}, "efficiency"),
        ({"length": 0}, "length 0"),
        ({"length": 64, "targets": 0.0}, "targets 0"),
    ],
)
def test_questions_nobody_can_answer_are_refused(changes: dict[str, Any], word: str, recipe: Recipe) -> None:
    with pytest.raises(InputError, match=word):
        foresee(recipe, Question(**changes))


def test_targets_that_match_nothing_are_refused_as_in_training() -> None:
    with pytest.raises(ModelError, match="nothing_proj"):
        shape_of(CONFIG, given(["nothing_proj"]))


def test_times_are_told_in_the_unit_people_use() -> None:
    assert [spoken(seconds) for seconds in (3.14, 600, 7200, 1e6)] == ["3.1 s", "10 min", "2.0 h", "277.8 h"]
    assert card("h200").products > card("a100").products


def test_the_highest_is_watched_anew_once_it_is_forgotten() -> None:
    cpu = torch.device("cpu")
    block = torch.ones(1 << 25)
    high = highest(cpu)
    del block
    forget(cpu)
    assert 0 < highest(cpu) <= high


MEASURED = """
import json, sys
from spellbound.train.plan.peak import highest
from spellbound.train.run import train
from spellbound.train.recipe_file import recipe_from
train(recipe_from(json.loads(sys.argv[1]), "test"), resume=False, say=print)
"""


def test_a_run_prints_plan_and_measurement_and_they_are_of_one_size(
    values: dict[str, Any], tmp_path: Path
) -> None:
    """In a process of its own, for memory that others left would count; a generous bound."""
    config = tmp_path / "config.json"
    wide = {**SIZES, "vocab_size": 8192, "hidden_size": 128, "intermediate_size": 512}
    config.write_text(json.dumps({**wide, "model_type": "jamba"}))
    values["model"] = {"config": str(config), "tokenizer": values["model"]["base"]}
    values["schedule"]["steps"] = 4
    values["data"] |= {"length": 1024}
    values["run"]["tensorboard"] = False
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, json.dumps(values)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "plan and measurement after 3 steps" in done.stdout
    plan = json.loads((Path(values["run"]["folder"]) / "plan.json").read_text())
    assert 0.7 < plan["memory_gib"] / plan["measured"]["memory_gib"] < 1.4
    page = (Path(values["run"]["folder"]) / "report.html").read_text()
    assert f"{plan['memory_gib']:,.2f}" in page
    assert f"{plan['measured']['memory_gib']:,.2f}" in page


def test_a_plan_for_this_device_goes_at_the_pace_of_steps_that_were_tried() -> None:
    recipe = given(None)
    shape, formats = shape_of(CONFIG, recipe), Formats(weights=4, products=4)
    # Rates that no machine has: what is left of them in the end was tried.
    device = replace(card("h200"), gpu=False, memory=1e9)
    step = Step(rows=2, time=256, targets=200)
    before = torch.get_rng_state()
    found = rehearsed(recipe, CONFIG, shape, formats, device, step, turns=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert found.basis == "rehearsed here"
    assert found.products < device.products / 10
    assert found.products / device.products == pytest.approx(device.scan / found.scan)
    assert 0 <= found.each < 1
    assert replace(found, products=1, scan=1, traffic=1, each=0, basis="") == replace(
        device, products=1, scan=1, traffic=1, basis=""
    )


def test_what_a_pass_takes_whatever_it_reads_is_told_from_many_and_few_tokens() -> None:
    assert rehearsal._each((1000, 2.5), (100, 0.7)) == pytest.approx(0.5)
    assert rehearsal._each((1000, 2.0), (100, 0.1)) == 0  # few tokens go faster each
    assert rehearsal._each((100, 2.0), (100, 1.0)) == 0
    assert rehearsal._each((1000, 1.0), (100, 1.1)) == 0
    recipe, device = given(None), replace(card("h200"), each=0.25)
    load = Load(tokens=100, padded=100, targets=100, squares=0.0, steps=4, passes=12)
    for devices in (1, 2):
        told = seconds_of(
            shape_of(CONFIG, recipe),
            Step(rows=1, time=100, targets=100),
            load,
            Formats(weights=4, products=4),
            device,
            devices=devices,
            checkpointing=False,
            at_once=64,
        )
        assert told["each pass"] == pytest.approx(3.0)


def test_a_model_too_large_to_be_tried_keeps_its_rates_and_some_layers_stand_for_all() -> None:
    shape = shape_of(CONFIG, given(None))
    each = [part.weights for part in shape.layers]
    assert layers_for(shape, 1 << 30) == len(each) == 4
    # Attention and experts both come with the second layer.
    assert layers_for(shape, shape.outside.weights + sum(each[:3])) == 3
    assert layers_for(shape, shape.outside.weights + sum(each[:2])) == 2
    assert layers_for(shape, shape.outside.weights + each[0]) == 0
    step = rows_for(Step(rows=8, time=1024, targets=800), 2048)
    assert (step.rows, step.time, step.targets) == (2, 1024, 200)
    assert rows_for(Step(rows=1, time=4096, targets=4096), 2048).time == 2048


def test_a_rehearsal_keeps_nobody_from_a_run() -> None:
    device = replace(card("h200"), gpu=False, memory=1e9)
    step = Step(rows=1, time=64, targets=20)
    # Two of four layers are tried, and the adapter is of the last one.
    recipe = given([r"model\.layers\.3\..*q_proj"])
    shape, formats = shape_of(CONFIG, recipe), Formats(weights=4, products=4)
    two = shape.outside.weights + sum(part.weights for part in shape.layers[:2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rehearsal, "_WEIGHTS", {False: two})
        assert rehearsed(recipe, CONFIG, shape, formats, device, step, turns=1) is device
    assert rehearsed(recipe, CONFIG, shape, formats, device, step, turns=1).basis == "rehearsed here"
    small = replace(device, memory=1e5)
    assert rehearsed(recipe, CONFIG, shape, formats, small, step, turns=1) is small
