import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from recipes.nano import bits, card, export
from recipes.nano.packing import Sequence
from spellbound.errors import InputError
from spellbound.jamba import JambaForCausalLM
from tests.recipes.conftest import micro


def alone(network: JambaForCausalLM, sequence: Sequence) -> float:
    ids = torch.tensor([sequence.ids.tolist()])
    logits = network(ids).logits[0, sequence.given - 1 : -1]
    return float(cross_entropy(logits, ids[0, sequence.given :], reduction="sum")) / math.log(2)


def test_bits_of_packed_texts_equal_those_of_each_alone() -> None:
    network = micro().eval()
    draw = np.random.default_rng(1)
    sequences = [
        Sequence(draw.integers(4, 60, size=size).astype(np.uint16), given)
        for size, given in ((9, 1), (30, 12), (17, 3), (32, 1), (5, 1))
    ]
    measured = bits.measure(network, sequences, text_bytes=100, row=32)
    with torch.inference_mode():
        wanted = sum(alone(network, sequence) for sequence in sequences)
    assert measured.bits == pytest.approx(wanted, rel=1e-5)
    assert measured.bits_per_byte == pytest.approx(wanted / 100, rel=1e-5)
    assert measured.documents == 5


def test_a_long_text_is_cut_without_losing_targets() -> None:
    network = micro().eval()
    with torch.no_grad():
        network.model.embed_tokens.weight.zero_()  # every token equally likely: the count of targets shows
    sequence = Sequence(np.arange(4, 104, dtype=np.uint16))
    measured = bits.measure(network, [sequence], text_bytes=1, row=16)
    assert measured.bits == pytest.approx(99 * math.log2(400), rel=1e-5)


def test_rounding_is_measured_and_undone() -> None:
    network = micro().eval()
    before = {name: weight.clone() for name, weight in network.state_dict().items()}
    errors = export.rounding_errors(network, torch.arange(4, 24)[None])
    assert 0 < errors["float16"] < errors["bfloat16"]
    assert all(torch.equal(before[name], weight) for name, weight in network.state_dict().items())


CARD = "# Nano\n\n<!-- size -->\nold\n<!-- /size -->\n\nkept\n<!-- bits -->\n<!-- /bits -->\n"


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


def test_the_bundled_card_has_every_section(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "models" / "nano" / "README.md").read_text(encoding="utf-8")
    for name in ("size", "training", "data", "bits", "writing", "samples"):
        assert text.count(f"<!-- {name} -->\n") == text.count(f"<!-- /{name} -->\n") == 1


def test_sections_say_what_the_commands_left(tmp_path: Path) -> None:
    stage = {
        "steps": 5,
        "steps_planned": 9,
        "tokens": 2560,
        "minutes": 1.5,
        "rate": 0.002,
        "rows_per_step": 8,
        "row_tokens": 64,
    }
    errors = {"float16": 1.25e-4, "bfloat16": 2e-3}
    told = {"parameters": 1000, "active_parameters": 800, "bytes": 2_000_000, "format": "float16"}
    shape = micro().config
    source = {"documents": 3, "tokens": 1234, "repeats": 2, "licenses": ["CC BY 4.0"]}
    entry = {"source": "simple_en", "lang": "en", "documents": 2, "bytes": 99, "bits": 2.5}
    kinds = {"end-on-sound": {"asked": 4, "followed": 3}}
    tally = {
        "passages": 4,
        "well_formed": 3,
        "ended": 4,
        "tags_asked": 0,
        "tagged": 0,
        "words": 200,
        "instructions": {"asked": 4, "followed": 3, "kinds": kinds},
    }
    sample = {"prompt": "p", "written": "a ``` b"}
    left = {
        "export.json": told
        | {"rounding_errors": errors, "training": {"pretrain": stage}}
        | {"config": shape.to_dict(), "mixers": shape.layers_block_type},
        "data/report.json": {name: {"sources": {"simple_en": source}} for name in ("pretrain", "sft")},
        "evaluation.json": {
            "bits": [entry],
            "writing": {"constrained": tally, "free": tally},
            "samples": [sample],
        },
    }
    (tmp_path / "data").mkdir()
    for name, content in left.items():
        (tmp_path / name).write_text(json.dumps(content))
    made = card.sections(tmp_path)
    assert "1,000 parameters, 800 of them active" in made["size"]
    assert "4 layers" in made["size"]
    assert "one mixes 4 experts, 2 of which work" in made["size"]
    assert "| pretrain | 2,560 | 5 of 9 | 8 x 64 | 0.002 | 1.5 |" in made["training"]
    assert "| pretrain | simple_en | 3 | 1,234 | 2 | CC BY 4.0 |" in made["data"]
    assert "| simple_en | en | 2 | 99 | 2.500 |" in made["bits"]
    assert "| well-formed | 75.0 % of 4 | 75.0 % of 4 |" in made["writing"]
    assert "| has a quote where tags were asked for | – | – |" in made["writing"]
    assert "| · end-on-sound | 75.0 % of 4 | 75.0 % of 4 |" in made["writing"]
    assert "````\na ``` b\n````" in made["samples"]


def test_sections_name_the_command_whose_figures_are_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"export\.json' is missing; .* recipes\.nano\.export"):
        card.sections(tmp_path)
