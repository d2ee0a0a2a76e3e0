"""Nano made from nothing in miniature, by the commands of recipes/nano/README.md, rated and made again."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from recipes.nano import card
from spellbound.data.ratings import read_pairs
from spellbound.data.readers import read_documents
from spellbound.data.rows import read_examples
from spellbound.jamba import JambaForCausalLM
from tests.recipes.conftest import RECIPES, ROOT, micro_config, recipe_command, spellbound

VOCABULARY = 700
SMALL = ("compute.precision=fp32", "run.processes=1", "run.samples=0", "run.tensorboard=false")
WRITING = ("--processes", 1, "--max-tokens", 12)


@pytest.fixture(scope="module")
def out(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole making: three stages, ratings, an adapter, and their measurements."""
    folder = tmp_path_factory.mktemp("nano")
    with pytest.MonkeyPatch.context() as patch:
        _make(patch, folder, corpora)
    return folder


def _make(patch: pytest.MonkeyPatch, out: Path, corpora: Path) -> None:
    def recipe(name: str, *arguments: object) -> None:
        assert recipe_command(patch, name, *arguments, "--out", out) == 0

    data = out / "data"
    recipe("tokenizer", "--corpora", corpora, "--stories", 4, "--vocabulary", VOCABULARY)
    recipe("drills", "--count", 40)
    recipe("data", "--stories", 8, "--examples", 10, "--valid", 3)
    (out / "config.json").write_text(micro_config(VOCABULARY).to_json_string())
    texts = _paths(corpora / "simple_en.parquet", data / "drills.parquet")
    start = (f"model.config={out / 'config.json'}", f"model.tokenizer={out / 'tokenizer'}")
    _train("language", out, *start, f"data.text={texts}", "data.length=128", "schedule.batch=2")
    texts = _paths(data / "stories.parquet", corpora / "simple_en.parquet")
    base = f"model.base={out / 'language/model'}"
    _train("stories", out, base, f"data.text={texts}", "data.length=256", "schedule.batch=2")
    learnt = (f"data.examples={_paths(data / 'sft.parquet')}", "data.length=4096", "schedule.batch=1")
    valid = f"data.validation={_paths(data / 'sft_valid.parquet')}"
    beside = f"data.text={_paths(corpora / 'simple_en.parquet')}"
    base = f"model.base={out / 'stories/model'}"
    _train("sft", out, base, *learnt, beside, valid, "run.validate_rows=1")
    recipe("rate", "--prompts", 12, "--answers", 3, *WRITING)
    rules = ("--accept", "simulated-1", "--least-chosen", 0, "--licence", "Apache-2.0")
    logs = (data / "ratings.jsonl", "--consent", data / "consent.jsonl", "--at", "2026-04-01")
    spellbound("data", "ratings", "pairs", *logs, *rules, "-o", data / "pairs.parquet")
    _prefer(out, f"model.base={out / 'sft/model'}", f'data.pairs=["{data / "pairs.parquet"}"]')
    unseen = ("--prompts", 2, "--bytes", 400)
    for name, stage in (("stories", "stories"), ("sft", "sft"), ("ratings", "sft")):
        adapter = ("--adapter", out / "ratings/adapter") if name == "ratings" else ()
        model = ("--model", out / stage / "model", *adapter)
        recipe("evaluate", name, "--corpora", corpora, *model, *unseen, *WRITING)
    target = out / "models"
    recipe("export", "--target", target)
    (target / "README.md").write_text((ROOT / "models/nano/README.md").read_text(encoding="utf-8"))
    recipe("card", "--card", target / "README.md")


def _train(stage: str, out: Path, *settings: str) -> None:
    given = (*settings, *SMALL, "schedule.steps=3", f"run.folder={out / stage}")
    spellbound("train", RECIPES / f"{stage}.toml", *(part for each in given for part in ("--set", each)))


def _prefer(out: Path, *settings: str) -> None:
    small = ("compute.precision=fp32", "run.tensorboard=false", "schedule.steps=3", "schedule.batch=1")
    given = (*settings, *small, "data.length=4096", f"run.folder={out / 'ratings'}")
    spellbound("prefer", RECIPES / "ratings.toml", *(part for each in given for part in ("--set", each)))


def _paths(*files: Path) -> str:
    return "[" + ", ".join(f'{{path = "{file}"}}' for file in files) + "]"


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_every_stage_begins_where_the_one_before_ended(out: Path) -> None:
    stages = [load_file(out / stage / "model/model.safetensors") for stage in ("language", "stories", "sft")]
    for one, other in pairwise(stages):
        assert one.keys() == other.keys()
        assert any(not torch.equal(one[name], other[name]) for name in one)
        assert all(torch.allclose(one[name], other[name], atol=0.1) for name in one)


def test_uses_of_the_simulator_share_no_story(out: Path) -> None:
    data = out / "data"
    told = {document.id for document in read_documents([data / "stories.parquet"])}
    learnt, unseen = (
        {example.source for example in read_examples([data / f"{name}.parquet"])}
        for name in ("sft", "sft_valid")
    )
    rated = {json.loads(line)["story"] for line in (data / "ratings.jsonl").read_text().splitlines()}
    uses = (told, learnt, unseen, rated)
    assert all(uses)
    assert sum(map(len, uses)) == len(set().union(*uses))


def test_ratings_became_pairs_without_those_who_took_consent_back(out: Path) -> None:
    manifest = _json(out / "data" / "pairs.parquet.manifest.json")
    rows = list(read_pairs([out / "data" / "pairs.parquet"]))
    assert manifest["consent"]["live_readers"] == 32
    assert manifest["ratings"]["read"] == 36
    assert 0 < len(rows) <= 24
    assert all(row.margin >= 0.25 and row.chosen != row.rejected for row in rows)
    assert {row.provenance.model for row in rows} == {"sft/model"}
    assert {row.licence for row in rows} == {"Apache-2.0"}


def test_the_same_prompts_were_answered_by_all_three(out: Path) -> None:
    told = {name: _json(out / "evaluation" / f"{name}.json") for name in card.MEASUREMENTS}
    passages = {name: card.read_passages(out / "evaluation" / f"{name}.jsonl") for name in told}
    asked = [[(each.id, each.constrained) for each in found] for found in passages.values()]
    assert asked[0] == asked[1] == asked[2]
    assert len(asked[0]) == 4
    assert told["sft"]["constrained"]["well-formed"]["share"] == 1
    assert told["sft"]["adapter"] == ""
    assert told["ratings"]["adapter"] == "ratings/adapter"
    assert told["sft"]["bits"] != told["stories"]["bits"]
    sources = {entry["source"] for entry in told["sft"]["bits"]}
    assert {"simple_en", "simulator, given the prompt"} <= sources
    assert [each["written"] for each in told["sft"]["samples"]] == [
        each.text for each in passages["sft"] if each.constrained
    ]


def test_the_exported_folder_is_the_sft_rounded_to_16_bits(out: Path) -> None:
    target, told = out / "models", _json(out / "export.json")
    names = {path.name for path in target.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"} <= names
    loaded = JambaForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    kept = JambaForCausalLM.from_pretrained(out / "sft/model", dtype=torch.float32).state_dict()
    number = {"float16": torch.float16, "bfloat16": torch.bfloat16}[told["format"]]
    assert told["format"] == min(told["rounding_errors"], key=lambda name: told["rounding_errors"][name])
    for name, weight in loaded.state_dict().items():
        assert torch.equal(weight, kept[name].to(number).float()), name
    assert AutoTokenizer.from_pretrained(target)("a").input_ids


def test_the_card_says_what_the_runs_left(out: Path) -> None:
    told = _json(out / "export.json")["training"]
    assert list(told) == ["language", "stories", "sft", "ratings"]
    assert told["language"]["steps"] == 3
    assert [each["source"] for each in told["language"]["data"]] == ["simple_en", "drills"]
    assert told["language"]["data"][0]["licences"] == ["CC BY 4.0"]
    assert told["language"]["data"][0]["held_out"] > 0
    assert told["ratings"]["method"] == "dpo"
    assert told["ratings"]["data"][0]["samples"] == len(list(read_pairs([out / "data" / "pairs.parquet"])))
    page = (out / "models/README.md").read_text(encoding="utf-8")
    made = card.sections(out)
    assert all(f"<!-- {name} -->\n{content}\n<!-- /{name} -->" in page for name, content in made.items())
    assert "| ratings | adapter alone |" in made["training"]
    assert "| with the constraint | before SFT | after SFT | after ratings |" in made["writing"]
    assert "of 2 |" in made["writing"]
    assert "| with the constraint | 2 |" in made["gain"]
