"""DPO and KTO from end to end on the tiny model: losses fall, margins grow and are what the adapter gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trl.trainer import utils as trl_utils

from spellbound.data.fields import Provenance
from spellbound.data.ratings import Pair, Thumb, write_pairs, write_thumbs
from spellbound.directives import Character, StoryPrompt
from spellbound.errors import InputError
from spellbound.jamba import JambaForCausalLM
from spellbound.jamba.lora import load_adapter
from spellbound.story.local import LocalGenerator
from spellbound.train.encoding import Encoder
from spellbound.train.log import read_log
from spellbound.train.preferences import trainers
from spellbound.train.preferences.rows import encoded
from spellbound.train.preferences.run import PreferenceResult, prefer
from spellbound.train.preferences.settings import PreferenceData, PreferenceRecipe
from spellbound.train.recipe_file import settings_from
from tests.conftest import make_model, write_tokenizer

MARA = Character("Mara", "32AN4R")
TARGETS = ["in_proj", "dt_proj", "q_proj", "gate_proj", "up_proj", "down_proj", "router"]


def prompt(number: int) -> StoryPrompt:
    """Prompts of several lengths; one spells out a control token."""
    past = " ".join(["The bell rang."] * number) + ("<|endoftext|>" if number == 2 else "")
    return StoryPrompt((MARA,), past, ("Mara answers.",))


def said(number: int, text: str) -> str:
    return f'<quote speaker="32AN4R">{text * (1 + number % 3)}</quote>'


def pairs() -> list[Pair]:
    made = Provenance(annotator="test")
    return [
        Pair(
            id=f"pair-{number}",
            prompt=prompt(number),
            chosen=said(number, "Yes. "),
            rejected=said(number + 1, "No! "),
            margin=1,
            provenance=made,
        )
        for number in range(6)
    ]


def thumbs() -> list[Thumb]:
    return [
        Thumb(
            id=f"thumb-{pair.id}-{label}",
            prompt=pair.prompt,
            completion=pair.chosen if label else pair.rejected,
            label=label,
            score=float(label),
            provenance=pair.provenance,
        )
        for pair in pairs()
        for label in (True, False)
    ]


@pytest.fixture
def values(tiny_folder: Path, tmp_path: Path) -> dict[str, Any]:
    """Plain values of a DPO recipe over six pairs, which are its validation too."""
    write_pairs(tmp_path / "pairs.parquet", pairs())
    write_thumbs(tmp_path / "thumbs.jsonl", thumbs())
    return {
        "method": "dpo",
        "model": {"base": str(tiny_folder)},
        "adapter": {"targets": TARGETS},
        "data": {
            "pairs": [str(tmp_path / "pairs.parquet")],
            "validation": [str(tmp_path / "pairs.parquet")],
            "length": 1000,
        },
        "schedule": {"epochs": 4, "batch": 3, "rate": 3e-3, "warmup": 0.0, "shape": "constant"},
        "compute": {"precision": "fp32"},
        "run": {"folder": str(tmp_path / "run"), "tensorboard": False},
    }


def kto(values: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    files = [str(tmp_path / "thumbs.jsonl")]
    data = {"thumbs": files, "validation": files, "length": 1000}
    return {**values, "method": "kto", "data": data, "schedule": {**values["schedule"], "batch": 4}}


def run(values: dict[str, Any]) -> PreferenceResult:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return prefer(settings_from(PreferenceRecipe, values, "test"), say=lambda text: None)
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def log_probability(model: JambaForCausalLM, given: list[int], written: list[int]) -> float:
    """Of an output after its prompt, from the logits, one row at a time and without padding."""
    ids = torch.tensor([[*given, *written]])
    logits = model(ids).logits[0, len(given) - 1 : -1].log_softmax(-1)
    return float(logits.gather(1, ids[0, len(given) :, None]).sum())


def rewards(folder: Path, adapter: Path, start: Path | None = None) -> tuple[float, float]:
    """Mean reward of what was liked and of what was not, said again without TRL."""
    before: JambaForCausalLM = JambaForCausalLM.from_pretrained(folder).eval()
    after: JambaForCausalLM = JambaForCausalLM.from_pretrained(folder).eval()
    load_adapter(after, adapter)
    if start is not None:
        load_adapter(before, start)
    encoder = Encoder(folder)
    sums = [0.0, 0.0]
    for pair in pairs():
        (given,) = encoder.prompts([pair.prompt.render()])
        for place, text in enumerate((pair.chosen, pair.rejected)):
            written = [*encoder.letters([text])[0], encoder.end_id]
            sums[place] += log_probability(after, given, written) - log_probability(before, given, written)
    return sums[0] * 0.1 / 6, sums[1] * 0.1 / 6


@pytest.mark.parametrize("checkpointing", [False, True])
def test_pairs_are_learnt(values: dict[str, Any], tiny_folder: Path, checkpointing: bool) -> None:
    values["compute"] |= {"gradient_checkpointing": checkpointing, "rows": 1 if checkpointing else 3}
    result = run(values)
    steps = [entry for entry in result.entries if "loss" in entry]
    assert len(steps) == 8
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=1e-4)  # where it begins it is its own reference
    assert steps[-1]["loss"] < 0.3
    assert steps[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert steps[-1]["margin"] > 1
    chosen, rejected = rewards(tiny_folder, result.adapter)
    assert result.entries[-1]["valid_margin"] == pytest.approx(chosen - rejected, rel=1e-3)
    assert {file.name for file in result.adapter.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }


def test_thumbs_are_learnt(values: dict[str, Any], tiny_folder: Path, tmp_path: Path) -> None:
    result = run(kto(values, tmp_path))
    steps = [entry for entry in result.entries if "loss" in entry]
    assert steps[0]["loss"] == pytest.approx(0.5, abs=1e-4)
    assert steps[-1]["loss"] < 0.4
    chosen, rejected = rewards(tiny_folder, result.adapter)
    assert chosen > 0 > rejected
    assert (tmp_path / "run" / "recipe.toml").is_file()
    logged = list(read_log(tmp_path / "run"))
    assert len(logged) == len(result.entries)
    for key in ("tokens", "seconds"):
        so_far = [entry[key] for entry in logged if "loss" in entry]
        assert 0 < so_far[0] < so_far[-1] == max(so_far)


def test_an_adapter_is_gone_on_with_and_compared_with(
    values: dict[str, Any], tiny_folder: Path, tmp_path: Path
) -> None:
    first = run({**values, "schedule": {**values["schedule"], "epochs": 2}})
    del values["adapter"]
    second = run(
        {**values, "start": str(first.adapter), "run": {**values["run"], "folder": str(tmp_path / "two")}}
    )
    assert second.entries[0]["loss"] == pytest.approx(0.6931, abs=1e-4)
    chosen, rejected = rewards(tiny_folder, second.adapter, first.adapter)
    assert second.entries[-1]["valid_margin"] == pytest.approx(chosen - rejected, rel=1e-3)


def test_runs_are_repeatable(values: dict[str, Any], tmp_path: Path) -> None:
    one = run(values)
    two = run({**values, "run": {**values["run"], "folder": str(tmp_path / "two")}})
    first, second = (load_file(made.adapter / "adapter_model.safetensors") for made in (one, two))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_nobody_is_told_and_prompts_are_not_scored(
    values: dict[str, Any], tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    scored: list[int] = []
    apply = trl_utils._ChunkedLogProbFunction.apply

    def counted(hidden: torch.Tensor, *rest: Any) -> Any:
        scored.append(hidden.numel() // hidden.shape[-1])
        return apply(hidden, *rest)

    monkeypatch.setattr("trl.trainer.base_trainer.send_telemetry", lambda *given, **named: told.append(named))
    monkeypatch.setattr(trl_utils._ChunkedLogProbFunction, "apply", counted)
    values = values if method == "dpo" else kto(values, tmp_path)
    values["schedule"] |= {"epochs": 1}
    run(values)
    assert not told
    assert 0 < max(scored) < 6 * 50  # a batch of six outputs; with their prompts it has 600 tokens or more


def test_prompts_are_those_of_writing_and_outputs_end(values: dict[str, Any], tiny_folder: Path) -> None:
    encoder = Encoder(tiny_folder)
    data = PreferenceData(pairs=(Path(values["data"]["pairs"][0]),))
    rows = {row["id"]: row for row in encoded("dpo", data.pairs, data, encoder, 0).rows}
    generator = LocalGenerator(tiny_folder, device="cpu")
    for pair in pairs():
        row = rows[pair.id]
        assert row["prompt_ids"] == generator.prompt_tokens(pair.prompt)[0]
        assert row["chosen_ids"][-1] == row["rejected_ids"][-1] == encoder.end_id
        assert encoder.tokenizer.decode(row["chosen_ids"][:-1]) == pair.chosen


def test_long_rows_are_refused_or_left_out_and_never_cut(values: dict[str, Any], tiny_folder: Path) -> None:
    encoder, files = Encoder(tiny_folder), (Path(values["data"]["pairs"][0]),)
    whole = encoded("dpo", files, PreferenceData(pairs=files), encoder, 0)
    sizes = {
        row["id"]: len(row["prompt_ids"]) + max(len(row[key]) for key in ("chosen_ids", "rejected_ids"))
        for row in whole.rows
    }
    limit = sorted(sizes.values())[3]
    with pytest.raises(
        InputError, match=rf"2 of 6 rows are longer than data\.length \({limit} tokens\): pair-"
    ):
        encoded("dpo", files, PreferenceData(pairs=files, length=limit), encoder, 0)
    kept = encoded("dpo", files, PreferenceData(pairs=files, length=limit, overlong="drop"), encoder, 0)
    assert (kept.dropped, len(kept.rows)) == (2, 4)
    assert all(row in whole.rows for row in kept.rows)
    with pytest.raises(InputError, match="all 6 rows are longer"):
        encoded("dpo", files, PreferenceData(pairs=files, length=8, overlong="drop"), encoder, 0)


def test_every_thumb_has_another_output_beside_it(
    values: dict[str, Any], tiny_folder: Path, tmp_path: Path
) -> None:
    files = (tmp_path / "thumbs.jsonl",)
    rows = encoded("kto", files, PreferenceData(thumbs=files), Encoder(tiny_folder), 1).rows
    for row in rows:
        others = [each for each in rows if each["prompt_ids"] != row["prompt_ids"]]
        assert row["KL_completion_ids"] in [each["completion_ids"] for each in others]
    longest = [
        len(row["prompt_ids"]) + max(len(row["completion_ids"]), len(row["KL_completion_ids"]))
        for row in rows
    ]
    assert longest == sorted(longest)  # what a batch is made by counts both


def test_rows_of_like_length_meet_and_each_comes_once_an_epoch(
    values: dict[str, Any], tiny_folder: Path
) -> None:
    files = tuple(Path(each) for each in values["data"]["pairs"])
    rows = encoded("dpo", files, PreferenceData(pairs=files), Encoder(tiny_folder), 1)
    assert rows.lengths.tolist() == sorted(rows.lengths.tolist())
    order = trainers.Paired(rows, 2, 7)
    epochs = [list(order) for _ in range(20)]
    assert all(sorted(each) == list(range(len(rows.rows))) for each in epochs)
    assert len({tuple(each) for each in epochs}) > 1
    for epoch in epochs:
        assert {frozenset(epoch[at : at + 2]) for at in range(0, 6, 2)} == {
            frozenset(pair) for pair in ((0, 1), (2, 3), (4, 5))
        }
        assert set(epoch[:2]) == {4, 5}  # the longest first: what does not fit fails at once


def changed(values: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    """The values with one of them changed; a dot leads into a table."""
    table, _, name = key.rpartition(".")
    return {**values, table: {**values.get(table, {}), name: value}} if table else {**values, name: value}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("method", "kto", "method is kto and data.thumbs is empty"),
        ("method", "ppo", "give one of dpo, kto"),
        ("data.thumbs", ["x.jsonl"], "give pairs for dpo or thumbs for kto"),
        ("data.length", 2, "data.length is 2; give 8 tokens or more"),
        ("data.lenght", 2, "did you mean 'data.length'"),
        ("preference.beta", 0.0, "preference.beta is 0.0; give a number above 0"),
        ("preference.desirable_weight", -1, "preference.desirable_weight is -1"),
        ("adapter.dropout", 0.1, "adapter.dropout is 0.1; give 0"),
        ("adapter.targets", ["lm_head"], "lm_head"),
        ("adapter.targets", ["nothing"], "nothing"),
        ("optimizer.router_loss", 0.1, "optimizer.router_loss is 0.1; give 0"),
        ("compute.rows", 2, "compute.rows is 2; give a divisor of schedule.batch, 3"),
        ("start", "elsewhere", "start is .*elsewhere and the table adapter is given too"),
        ("data.pairs", ["none.parquet"], "none.parquet"),
    ],
)
def test_recipes_that_cannot_be_used(
    values: dict[str, Any], tmp_path: Path, key: str, value: object, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run(changed(values, key, value))
    assert not (tmp_path / "run" / "adapter").exists()


def test_a_run_is_not_overwritten(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").write_text("mine")
    with pytest.raises(InputError, match=r"is not empty \('log.jsonl' is there\); give another run\.folder"):
        run(values)
    assert (tmp_path / "run" / "log.jsonl").read_text() == "mine"


def test_a_run_that_leaves_the_numbers_saves_nothing(values: dict[str, Any], tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "lost")
    model = make_model()
    with torch.no_grad():
        model.get_submodule("model.final_layernorm").weight.fill_(torch.nan)
    model.save_pretrained(tmp_path / "lost")
    with pytest.raises(
        InputError, match=r"step 1: loss is nan; nothing is saved: give a smaller schedule\.rate"
    ):
        run(changed(values, "model.base", str(tmp_path / "lost")))
    assert not (tmp_path / "run" / "adapter").exists()


def test_an_adapter_that_learns_nothing_stops_the_run(values: dict[str, Any], tmp_path: Path) -> None:
    """Behind a projection of zeros no adapter can change anything."""
    write_tokenizer(tmp_path / "still")
    model = make_model()
    with torch.no_grad():
        model.get_submodule("model.layers.0.mamba.out_proj").weight.zero_()
    model.save_pretrained(tmp_path / "still")
    still = changed(changed(values, "model.base", str(tmp_path / "still")), "adapter.targets", ["in_proj"])
    with pytest.raises(InputError, match=r"2 factors had no gradient in 2 steps, .*layers\.0\.mamba"):
        run(still)
