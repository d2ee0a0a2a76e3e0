"""The capacity model's arithmetic: against a real model, against figures known from elsewhere, and itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spellbound.errors import InputError, ModelError
from spellbound.story.capacity import ASSUMPTIONS, Capacity, Question, lines, read_sizes, sizes_of

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "recipes" / "jamba-mini.config.json"
VALUES: dict[str, Any] = json.loads(CONFIG.read_text(encoding="utf-8"))
GIB = 2**30
MINI = read_sizes(CONFIG)


def capacity(**question: Any) -> Capacity:
    return Capacity(MINI, Question(**question))


def test_jamba_minis_sizes() -> None:
    assert MINI.parameters / 1e9 == pytest.approx(51.57, abs=0.01)
    assert MINI.active / 1e9 == pytest.approx(11.8, abs=0.1)
    assert MINI.keys_and_values == 16 * 1024
    assert MINI.state / 2**20 == pytest.approx(15.31, abs=0.01)
    assert MINI.experts / MINI.parameters == pytest.approx(0.87, abs=0.01)
    assert MINI.bytes_of(16) / GIB == pytest.approx(96.06, abs=0.01)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tie_word_embeddings": False},
        {"mamba_proj_bias": True, "mamba_conv_bias": False},
        {"num_experts": 1, "num_experts_per_tok": 1},
        {"mamba_dt_rank": "auto", "mamba_d_conv": 3},
        {"expert_layer_period": 4, "attn_layer_offset": 1},
    ],
    ids=str,
)
def test_the_count_is_that_of_a_real_model(changes: dict[str, Any]) -> None:
    import torch
    from transformers import JambaConfig

    from spellbound.jamba import JambaForCausalLM
    from tests.conftest import make_model

    values = make_model().config.to_dict() | changes
    with torch.device("meta"):
        model = JambaForCausalLM(JambaConfig.from_dict(values))
    # Tied weights are one parameter, and counted once.
    assert sizes_of(values).parameters == sum(parameter.numel() for parameter in model.parameters())


def test_figures_known_from_elsewhere() -> None:
    """One H200 at its stated rates: 202 tokens/s short, 171 at 256 K, 8.6 s to read them."""
    short, long = capacity(efficiency=1.0, story=1_000), capacity(efficiency=1.0, story=262_144)
    assert 1 / short.step(1) == pytest.approx(202, rel=0.01)
    assert 1 / long.step(1) == pytest.approx(171, rel=0.01)
    assert long.reading(262_144) == pytest.approx(8.6, rel=0.01)
    at_40 = capacity(efficiency=0.4, story=262_144)
    assert at_40.reading(262_144) == pytest.approx(21, rel=0.03)
    assert at_40.reading(1_500, after=260_644) == pytest.approx(0.15, rel=0.05)
    assert at_40.left / GIB == pytest.approx(40, abs=0.5)
    assert long.stories in (9, 10)


def test_reading_in_turns_is_reading_at_once() -> None:
    whole = capacity(story=10_000)
    parts = sum(whole.reading(1_000, after=after) for after in range(0, 10_000, 1_000))
    assert parts == pytest.approx(whole.reading(10_000))


def test_what_one_story_takes() -> None:
    assert capacity(story=1_024, snapshots=1).story == 1_024 * 16 * 1024 + MINI.state
    assert capacity(story=1_024, snapshots=3).story == 1_024 * 16 * 1024 + 3 * MINI.state
    # Eight heads of keys and values on 16 cards: each is kept twice.
    assert capacity(story=1_024, snapshots=1, cards=16).story == 2 * 1_024 * 16 * 1024 + MINI.state


def test_experts_that_a_step_reads() -> None:
    alone, many = MINI.bytes_of(16, streams=1), MINI.bytes_of(16, streams=1000)
    assert alone == pytest.approx(2 * MINI.active)
    assert many == pytest.approx(MINI.bytes_of(16) - 2 * MINI.embedding)
    assert MINI.bytes_of(16, streams=2) - alone == pytest.approx(2 * MINI.experts * 0.125 * 0.875)


def test_fewer_bits_are_not_for_mamba() -> None:
    saved = MINI.bytes_of(16) - MINI.bytes_of(8)
    assert saved == MINI.experts + MINI.quantised
    assert MINI.bytes_of(4) > MINI.bytes_of(16) / 4
    assert capacity(card="h100", bits=8).stories > 0


def test_streams_are_the_most_that_are_fast_enough() -> None:
    found = capacity(story=2_048, cards=4, speed=30.0)
    most = found.streams
    assert 0 < most < found.stories
    assert found.step(most) <= 1 / 30 < found.step(most + 1)


def test_users() -> None:
    found = capacity()
    assert found.users(known=True) == int(0.7 * 180 / found.turn(known=True))
    assert found.turn(known=False) - found.turn(known=True) == pytest.approx(
        found.reading(32_768) - found.reading(1_000, after=31_768)
    )
    assert capacity(minutes=6.0).users(known=True) == pytest.approx(2 * found.users(known=True), abs=1)


def test_more_is_never_less() -> None:
    for name, less, more in (("cards", 1, 2), ("efficiency", 0.4, 0.5), ("memory", 130.0, 139.0)):
        low, high = capacity(**{name: less}), capacity(**{name: more})
        assert (low.stories, low.streams) <= (high.stories, high.streams)
        assert low.users(known=True) < high.users(known=True)


def test_too_little_memory_is_said() -> None:
    small = capacity(card="h100")
    assert (small.stories, small.streams, small.users(known=True)) == (0, 0, 0)
    assert "not even one story fits: 20.6 GiB too little" in "\n".join(lines(small))


def test_too_slow_is_said() -> None:
    assert "no stream reaches 5000 tokens/s" in "\n".join(lines(capacity(speed=5000.0)))


def test_every_assumption_is_printed() -> None:
    for found in (capacity(), capacity(card="h100"), capacity(speed=5000.0)):
        told = "\n".join(lines(found))
        assert all(each in told for each in ASSUMPTIONS)
        assert "of which 40% is reached" in told


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"card": "abacus"}, "card 'abacus' is not known; give one of h200, h100, a100"),
        ({"bits": 5}, "bits is 5; give 4, 8 or 16"),
        ({"cards": 0}, "cards is 0; give 1 or more"),
        ({"written": -1}, "written is -1"),
        ({"snapshots": 0}, "snapshots is 0"),
        ({"minutes": 0.0}, "minutes is 0.0; give a number above 0"),
        ({"speed": float("nan")}, "speed is nan"),
        ({"memory": -1.0}, "memory is -1.0"),
        ({"efficiency": 1.5}, "efficiency is 1.5; give a share above 0"),
        ({"turn": 100, "story": 10}, "turn is 100 and story 10"),
    ],
)
def test_questions_that_mean_nothing(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        Question(**changes)
    assert message in str(refused.value)


def test_a_story_longer_than_the_context() -> None:
    with pytest.raises(
        ModelError, match=r"story is 262,145 tokens and the model's context 262,144; give fewer"
    ):
        capacity(story=262_145)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be used"),
        ("{", "cannot be used"),
        ("[]", "model_type is not 'jamba'"),
        ('{"model_type": "llama"}', "model_type is not 'jamba'"),
        ('{"model_type": "jamba"}', "'hidden_size' is missing"),
        (json.dumps(VALUES | {"hidden_size": "4096"}), "cannot be used"),
        (json.dumps(VALUES | {"attn_layer_period": 0}), "cannot be used"),
    ],
)
def test_configs_that_are_none(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "config.json"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    with pytest.raises(ModelError) as refused:
        read_sizes(file)
    assert str(refused.value).startswith(f"{file}: ")
    assert message in str(refused.value)
    assert str(refused.value).endswith("give the config.json of a Jamba")


def test_a_folder_is_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(CONFIG.read_text(encoding="utf-8"), encoding="utf-8")
    assert read_sizes(tmp_path) == MINI
    assert replace(MINI, state=0) != MINI
