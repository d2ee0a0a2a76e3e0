"""The page at the end of a run, and the samples in it."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from spellbound.jamba import JambaForCausalLM
from spellbound.train import samples
from spellbound.train.dataset import Dataset
from spellbound.train.encoding import Encoder
from spellbound.train.report import curve, write_report
from spellbound.train.tokens import Counts, Tokens
from tests.train.test_training import run


class Tags(HTMLParser):
    """Collects what a page refers to, and checks that it is well-formed enough."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_has_curves_samples_data_and_recipe_and_needs_nothing_else(values: dict[str, Any]) -> None:
    values["run"]["samples"] = 2
    folder = Path(values["run"]["folder"])
    run(values)
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    page = (folder / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    assert not tags.references
    text = " ".join(tags.text)
    for wanted in (
        "Loss",
        "held-out loss, first and last",
        "examples.jsonl",
        "before",
        "after",
        "rate = 0.001",
    ):
        assert wanted in text
    assert "<MaraDescription>" in text  # shown as text, not as markup
    assert "<MaraDescription>" not in page
    assert page.count("<svg") == 3
    assert f"{plan['memory_gib']:,.2f}" in text
    told = samples.read(folder)
    assert len(told) == 2
    assert all(sample.before and sample.after for sample in told)


def test_a_curve_of_nothing_of_one_point_and_of_many() -> None:
    assert "Nothing was measured" in curve([(1, float("nan"))])
    assert "<path" in curve([(1, 2.0)])
    many = curve([(step, 1 / (step + 1)) for step in range(100_000)], [(5, 0.3)])
    assert many.count("L") < 1500
    assert many.count('class="other"') == 1


def test_samples_follow_from_the_seed(tiny_model: JambaForCausalLM) -> None:
    prompt = list(range(3, 30))
    one, again, other = (samples.continued(tiny_model, prompt, {2}, seed) for seed in (1, 1, 2))
    assert one == again != other
    assert len(one) <= samples.NEW
    assert 2 not in one
    assert tiny_model.fused_step is None


def test_what_another_beginning_noted_is_not_kept(tiny_folder: Path, tmp_path: Path) -> None:
    model, encoder = JambaForCausalLM.from_pretrained(tiny_folder), Encoder(tiny_folder)
    first, second = encoder.letters(["Mara rings the bell.", "Tom <b>waits</b>."])
    samples.note(tmp_path, "before", [first], model, encoder)
    samples.note(tmp_path, "before", [second], model, encoder)
    samples.note(tmp_path, "after", [second], model, encoder)
    (told,) = samples.read(tmp_path)
    assert told.prompt == encoder.tokenizer.decode(second)
    assert told.before
    assert told.after


HOSTILE = "</pre><script>alert(1)</script>&lt;\u202e\u0000\"'"


def test_hostile_stories_and_names_stay_text(tmp_path: Path) -> None:
    told = [{"prompt": HOSTILE, "before": HOSTILE, "after": HOSTILE}]
    (tmp_path / samples.FILE).write_text(json.dumps(told), encoding="utf-8")
    counts = Counts(name=HOSTILE, samples=1, licences=[HOSTILE])
    empty = np.empty(0, dtype=np.int64)
    dataset = Dataset(Tokens(empty, empty, (counts,)), Tokens(empty, empty, ()), {})
    page = write_report(tmp_path, HOSTILE, dataset, HOSTILE).read_text(encoding="utf-8")
    assert "<script" not in page
    assert page.count("&lt;script&gt;") == 8
