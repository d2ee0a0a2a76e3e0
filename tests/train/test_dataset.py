"""From files to token ids: what is kept, what is refused, and that nothing is done twice."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spellbound.data.rows import write_examples
from spellbound.errors import InputError
from spellbound.train.dataset import Dataset, held_out, prepare
from spellbound.train.encoding import Encoder
from spellbound.train.recipe_file import recipe_from
from tests.train.conftest import example


def prepared(
    values: dict[str, Any], folder: Path, tiny_folder: Path, told: list[int] | None = None
) -> Dataset:
    settings = recipe_from(values, "test").data
    noted: list[int] = [] if told is None else told
    return prepare(settings, Encoder(tiny_folder), folder, lambda name, count: noted.append(count))


def test_examples_and_documents_become_samples(
    values: dict[str, Any], tmp_path: Path, tiny_folder: Path
) -> None:
    dataset = prepared(values, tmp_path / "tokens", tiny_folder)
    encoder = Encoder(tiny_folder)
    assert [counts.name for counts in dataset.train.counts] == ["examples.jsonl", "documents.jsonl"]
    assert dataset.train.counts[0].samples == 12
    first = dataset.train.samples[0]
    text = encoder.tokenizer.decode(dataset.train.ids[: first["length"]].tolist())
    assert text.startswith("<|startoftext|><MaraDescription>")
    assert text.endswith("</quote><|endoftext|>")
    assert dataset.train.samples["weight"][:3].tolist() == [1.0, 2.0, 3.0]
    assert len(dataset.valid) == 4


def test_it_is_done_once_and_again_for_other_data_or_settings(
    values: dict[str, Any], tmp_path: Path, tiny_folder: Path
) -> None:
    folder = tmp_path / "tokens"
    one = prepared(values, folder, tiny_folder)
    times = [each.stat().st_mtime_ns for each in sorted(folder.rglob("*"))]
    prepared(values, folder, tiny_folder)
    assert [each.stat().st_mtime_ns for each in sorted(folder.rglob("*"))] == times
    values["data"]["length"] = 350
    other = prepared(values, folder, tiny_folder)
    assert one.digests != other.digests
    assert len(list(folder.iterdir())) == 2


def test_overlong_examples_are_named_and_counted(
    values: dict[str, Any], tmp_path: Path, tiny_folder: Path
) -> None:
    values["data"]["length"] = 150
    with pytest.raises(
        InputError, match=r"data\.length 150 is too short for \d+ samples: 'example-"
    ) as caught:
        prepared(values, tmp_path / "tokens", tiny_folder)
    assert len(re.findall("'example-", str(caught.value))) == 5
    assert "…; give longer rows, or set data.overlong" in str(caught.value)
    assert not list((tmp_path / "tokens").iterdir())


def test_overlong_examples_may_be_left_out_or_cut(
    values: dict[str, Any], tmp_path: Path, tiny_folder: Path
) -> None:
    whole = prepared(values, tmp_path / "whole", tiny_folder).train
    ends = whole.samples["length"][:12]
    length = int(np.sort(ends)[5])
    values["data"] |= {"length": length, "overlong": "drop"}
    dropped = prepared(values, tmp_path / "dropped", tiny_folder).train.counts[0]
    assert dropped.dropped == (ends > length).sum() == 12 - dropped.samples
    values["data"]["overlong"] = "window"
    cut = prepared(values, tmp_path / "cut", tiny_folder).train.counts[0]
    assert cut.windowed == (ends > length).sum()
    assert cut.targets == whole.counts[0].targets  # each is learnt, and once


def test_what_is_held_out_is_held_out_by_the_story_it_is_of(
    values: dict[str, Any], tmp_path: Path, tiny_folder: Path
) -> None:
    values["data"] |= {"held_out": 3, "validation": [], "length": 2000}
    dataset = prepared(values, tmp_path / "tokens", tiny_folder)
    stories = [f"story-{number // 2}" for number in range(12)]
    tales = [f"tale-{number}" for number in range(8)]
    kept = [sum(held_out(name, 3) for name in names) for names in (stories, tales)]
    assert all(kept)
    assert [counts.held_out for counts in dataset.train.counts] == kept
    assert [counts.samples for counts in dataset.valid.counts] == kept
    assert [counts.samples for counts in dataset.train.counts] == [12 - kept[0], 8 - kept[1]]


def test_one_in_twenty_is_a_twentieth() -> None:
    share = sum(held_out(f"document-{number}", 20) for number in range(20_000)) / 20_000
    assert abs(share - 0.05) < 0.005
    assert not any(held_out(str(number), 0) for number in range(100))


def test_nothing_left_to_learn_is_an_error(values: dict[str, Any], tmp_path: Path, tiny_folder: Path) -> None:
    values["data"] |= {"text": [], "length": 50, "overlong": "drop"}
    with pytest.raises(InputError, match=r"nothing is left to learn in .*examples\.jsonl"):
        prepared(values, tmp_path / "tokens", tiny_folder)


def test_a_file_that_is_not_there(values: dict[str, Any], tmp_path: Path, tiny_folder: Path) -> None:
    values["data"]["examples"] = [{"path": str(tmp_path / "none.jsonl")}]
    with pytest.raises(InputError, match=r"none\.jsonl: cannot be read: no such file or directory"):
        prepared(values, tmp_path / "tokens", tiny_folder)


def test_many_rows_are_read_in_parts(values: dict[str, Any], tmp_path: Path, tiny_folder: Path) -> None:
    write_examples(tmp_path / "many.jsonl", (example(number) for number in range(600)))
    values["data"] |= {"examples": [{"path": str(tmp_path / "many.jsonl")}], "text": []}
    told: list[int] = []
    dataset = prepared(values, tmp_path / "tokens", tiny_folder, told)
    assert told == [256, 512]
    assert len(dataset.train) == 600


def test_damaged_tokens_say_so(values: dict[str, Any], tmp_path: Path, tiny_folder: Path) -> None:
    prepared(values, tmp_path / "tokens", tiny_folder)
    (file,) = (tmp_path / "tokens").glob("*/train/tokens.json")
    file.write_text(json.dumps({"dtype": "<u2"}))
    with pytest.raises(InputError, match=r"the token ids are damaged .*; remove that folder"):
        prepared(values, tmp_path / "tokens", tiny_folder)
