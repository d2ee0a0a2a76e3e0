"""Figures into the card: only into its sections, the same twice, and none that was not measured."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from recipes.nano import card, export
from recipes.nano.measuring import Passage, share
from spellbound.errors import InputError
from tests.recipes.conftest import RECIPES, ROOT, micro

CARD = "# Nano\n\n<!-- size -->\nold\n<!-- /size -->\n\nkept\n<!-- bits -->\n<!-- /bits -->\n"
SECTIONS = ("size", "training", "data", "bits", "writing", "gain", "samples")


def test_filling_a_card_replaces_only_its_sections_and_twice_is_once(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(CARD)
    made = {"size": r"13 \1 M", "bits": "| a |\n| b |"}
    card.fill(path, made)
    once = path.read_text()
    assert once == CARD.replace("old", made["size"]).replace(
        "<!-- bits -->\n", "<!-- bits -->\n| a |\n| b |\n"
    )
    card.fill(path, made)
    assert path.read_text() == once


def test_a_card_without_the_section_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(CARD)
    with pytest.raises(InputError, match="0 sections '<!-- writing -->'"):
        card.fill(path, {"size": "new", "writing": "x"})
    assert path.read_text() == CARD


def test_the_bundled_card_has_every_section() -> None:
    text = (ROOT / "models" / "nano" / "README.md").read_text(encoding="utf-8")
    for name in SECTIONS:
        assert text.count(f"<!-- {name} -->\n") == text.count(f"<!-- /{name} -->\n") == 1


def stage(method: str = "full") -> dict[str, Any]:
    source: dict[str, Any] = {
        "source": "simple_en",
        "samples": 3,
        "tokens": 1234,
        "learnt": 1231,
        "repeats": 2.0,
    }
    source |= {"held_out": 1, "windowed": 0, "dropped": 4, "licences": ["CC BY 4.0"]}
    told: dict[str, Any] = {"method": method, "steps": 5, "tokens": 2560, "minutes": 1.5, "rate": 0.002}
    return told | {"shape": "cosine", "rows_per_step": 8, "row_tokens": 1536, "data": [source]}


def evaluation(bits: float) -> dict[str, Any]:
    mode: dict[str, Any] = {name: share(3, 4) for name in card.SHARES}
    mode |= {"words": 50.2, "kinds": {"speaks": share(0, 4)}}
    entry = {"source": "simple_en", "lang": "en", "documents": 2, "bytes": 99, "bits": bits}
    sample = {"prompt": "p", "written": "a ``` b"}
    return {"constrained": mode, "free": mode, "bits": [entry], "samples": [sample]}


def passage(name: str, *, constrained: bool, held: bool) -> dict[str, Any]:
    given: dict[str, Any] = {"id": name, "constrained": constrained, "text": "", "well_formed": True}
    given |= {"ended": True, "tags_asked": True, "quotes": 1, "named": 1, "wrong_speaker": 0, "words": 3}
    return given | {"followed": [["speaks", held]]}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """What the commands would have left."""
    shape = micro().config
    errors = {"float16": 1.25e-4, "bfloat16": 2e-3}
    told = {"parameters": 1000, "active_parameters": 800, "bytes": 2_000_000, "format": "float16"}
    told |= {"rounding_errors": errors, "config": shape.to_dict(), "mixers": shape.layers_block_type}
    told |= {"training": {"language": stage(), "ratings": stage("lora")}}
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "export.json").write_text(json.dumps(told))
    for place, name in enumerate(card.MEASUREMENTS):
        (tmp_path / "evaluation" / f"{name}.json").write_text(json.dumps(evaluation(2.5 - place)))
        rows = [
            passage(f"p{number}", constrained=constrained, held=name == "ratings" and constrained)
            for number in range(4)
            for constrained in (True, False)
        ]
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (tmp_path / "evaluation" / f"{name}.jsonl").write_text(lines)
    return tmp_path


def test_sections_say_what_the_commands_left(out: Path) -> None:
    made = card.sections(out)
    assert tuple(made) == SECTIONS
    assert "1,000 parameters, 800 of them active" in made["size"]
    assert "4 layers, from 0 on: attention in 1, Mamba-1" in made["size"]
    assert "one mixes 4 experts, 2 of which work" in made["size"]
    assert "| language | all weights | 2,560 | 5 | 8 x 1,536 | 0.002 | 1.5 |" in made["training"]
    assert "| ratings | adapter alone |" in made["training"]
    assert "| language | simple_en | 3 | 1,234 | 1,231 | 2 | 1 | 4 | CC BY 4.0 |" in made["data"]
    assert "| simple_en | en | 2 | 99 | 2.500 | 1.500 | 0.500 |" in made["bits"]
    cell = "75.0 % (30.1–95.4) of 4"
    assert f"| well-formed | {cell} | {cell} | {cell} |" in made["writing"]
    assert made["writing"].count("| · speaks | 0.0 % (0.0–49.0) of 4 |") == 2
    assert "| with the constraint | 4 | 0.000 | 1.000 | +1.000 | +1.000 to +1.000 |" in made["gain"]
    assert "| without | 4 | 0.000 | 0.000 | +0.000 | +0.000 to +0.000 |" in made["gain"]
    assert "````\na ``` b\n````" in made["samples"]


def test_every_table_has_cells_for_all_of_its_columns(out: Path) -> None:
    for content in card.sections(out).values():
        for table in content.split("\n\n"):
            lines = [line for line in table.splitlines() if line.startswith("|")]
            assert len({line.count("|") for line in lines}) <= 1


def test_what_is_not_there_is_a_dash(out: Path) -> None:
    path = out / "evaluation" / "sft.json"
    told = json.loads(path.read_text())
    told["bits"][0]["source"] = "other"
    told["free"]["kinds"] = {}
    told["free"]["wrong speaker"] = share(0, 0)
    path.write_text(json.dumps(told))
    made = card.sections(out)
    assert "| simple_en | en | 2 | 99 | 2.500 | – | 0.500 |" in made["bits"]
    assert "| other | en | 2 | 99 | – | 1.500 | – |" in made["bits"]
    assert "| 0.0 % (0.0–49.0) of 4 | – | 0.0 % (0.0–49.0) of 4 |" in made["writing"]
    assert "| wrong speaker | 75.0 % (30.1–95.4) of 4 | – |" in made["writing"]


@pytest.mark.parametrize(
    ("missing", "command"),
    [
        ("export.json", "export"),
        ("evaluation/stories.json", "evaluate stories"),
        ("evaluation/ratings.jsonl", "evaluate ratings"),
    ],
)
def test_sections_name_the_command_whose_figures_are_missing(out: Path, missing: str, command: str) -> None:
    (out / missing).unlink()
    with pytest.raises(InputError, match=rf"{missing}' is missing; .* recipes\.nano\.{command}$"):
        card.sections(out)


def test_passages_come_back_as_they_were(out: Path) -> None:
    first = card.read_passages(out / "evaluation" / "sft.jsonl")[0]
    assert isinstance(first, Passage)
    assert first.followed == (("speaks", False),)


def test_rounding_is_measured_and_undone() -> None:
    network = micro().eval()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    errors = export.rounding_errors(network, [list(range(4, 24)), list(range(9, 12))])
    assert 0 < errors["float16"] < errors["bfloat16"]
    assert all(torch.equal(before[name], weight) for name, weight in network.state_dict().items())


def test_a_run_that_was_not_made_names_its_command(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"spellbound train recipes/nano/stories\.toml"):
        export.stage_facts(tmp_path / "stories")


def test_nano_fits_into_the_repository() -> None:
    from transformers import JambaConfig

    from spellbound.jamba import JambaForCausalLM

    config = JambaConfig.from_dict(json.loads((RECIPES / "config.json").read_text(encoding="utf-8")))
    with torch.device("meta"):
        network = JambaForCausalLM(config)
    assert 2 * sum(weight.numel() for weight in network.parameters()) < 0.9 * export.LIMIT
