"""The page at the end of a run, and the samples in it."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from spellbound.jamba import JambaForCausalLM
from spellbound.train import samples
from spellbound.train.report import curve
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
    folder.mkdir()  # a plan may be there before the run
    (folder / "plan.json").write_text(json.dumps({"memory_gib": 123.0}))
    run(values)
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
    assert "123.00" in text
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
