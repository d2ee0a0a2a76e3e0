"""`data stats`: what is counted, kept in little memory, and shown."""

import json
import re
import tracemalloc
from base64 import b64decode
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from spellbound.data.checks import Check
from spellbound.data.examples import Example, ExampleRating
from spellbound.data.fields import Provenance
from spellbound.data.rows import read_any, write_examples, write_tagged
from spellbound.data.stats import Names, Spread, Tally, tally, write_report
from spellbound.data.stats.plots import DARK, LIGHT, draw
from spellbound.data.tagged import TaggedStory
from spellbound.directives import Character, StoryPrompt
from spellbound.errors import InputError

MARA, TOM = Character("Mara", "32AN4R"), Character("Old Tom", "7QK2MD")
COMPLETION = (
    '<action>Mara lifts her lamp.</action> <quote speaker="32AN4R">“I will wait,”</quote> she says.'
    ' <quote speaker="32AN4R">“Long.”</quote> <sound>Ding!</sound>'
)
EXAMPLE = Example(
    id="novels/a/3",
    prompt=StoryPrompt((MARA, TOM), "It <sound>rained</sound> hard.", ("Go on.", "End well.")),
    completion=COMPLETION,
    weight=0.5,
    language="en",
    source="novels/a",
    licence="CC0-1.0",
    provenance=Provenance(annotator="rules+teacher", model="big"),
    checks=(Check("speaks", ("32AN4R",)), Check("no_sound")),
    rating=ExampleRating(score=0.75),
)
STORY = TaggedStory(
    id="s",
    text="<quote speaker='7QK2MD'>Ay.</quote> So it was.",
    cast=(TOM,),
    language="",
    doubtful=((0, 7),),
    provenance=Provenance(annotator="rules"),
)


def counted(*rows: Example | TaggedStory) -> Tally:
    found = Tally(tokens=len)
    for row in rows:
        found.add(row)
    return found


def test_an_example_is_counted() -> None:
    row = counted(EXAMPLE).to_row()
    assert {name: numbers["mean"] for name, numbers in row["numbers"].items()} == {
        "prompt, words": len(EXAMPLE.prompt.render().split()),
        "prompt, tokens": len(EXAMPLE.prompt.render()),
        "past story, words": 3,
        "past story, tokens": len(EXAMPLE.prompt.past_story),
        "completion, words": 11,
        "completion, tokens": len(COMPLETION),
        "quotes a row": 2,
        "actions a row": 1,
        "sounds a row": 1,
        "speakers": 1,
        "share of speech": 4 / 11,
        "characters in the cast": 2,
        "instructions": 2,
        "weight": 0.5,
        "rating": 0.75,
    }
    assert row["names"] == {
        "tag": {"quote": 2, "action": 1, "sound": 1},
        "form": {"tagged": 1},
        "instruction kind": {"no_sound": 1, "speaks": 1},
        "language": {"en": 1},
        "collection": {"novels": 1},
        "source": {"novels/a": 1},
        "licence": {"CC0-1.0": 1},
        "annotator": {"rules+teacher": 1},
        "model": {"big": 1},
    }
    assert row["rows"] == {"examples": 1, "tagged stories": 0}


def test_a_tagged_story_is_counted() -> None:
    row = counted(STORY).to_row()
    assert row["numbers"]["story, words"]["mean"] == 4
    assert row["numbers"]["share in doubt"]["mean"] == 0.5
    assert row["names"]["language"] == {"unknown": 1}
    assert row["rows"] == {"examples": 0, "tagged stories": 1}


def test_a_row_that_says_nothing_is_counted() -> None:
    empty = EXAMPLE.model_copy(update={"completion": "", "prompt": StoryPrompt()})
    found = counted(empty, STORY.model_copy(update={"text": ""}))
    assert found.spreads["completion, words"].largest == 0
    assert "share of speech" not in found.spreads
    assert list(draw(found, LIGHT)) == ["lengths", "markup", "instructions", "origin"]


numbers = st.lists(st.integers(0, 10**7) | st.floats(0, 1), min_size=1, max_size=60)


@given(numbers, st.sampled_from([0.05, 0.5, 0.95, 0.99]))
def test_numbers_are_kept_to_three_digits(values: list[float], share: float) -> None:
    spread = Spread()
    for value in values:
        spread.add(value)
    row = spread.to_row()
    assert (row["count"], row["min"], row["max"]) == (len(values), min(values), max(values))
    assert row["mean"] == pytest.approx(mean(values))
    assert ("sum" in row) == all(float(value).is_integer() for value in values)
    exact = sorted(values)[max(0, -int(-share * len(values) // 1) - 1)]
    assert spread.quantile(share) == pytest.approx(exact, rel=0.006)


def test_memory_does_not_grow_with_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "_MOST_NAMES", 50)
    spread, names = Spread(), Names()
    tracemalloc.start()
    try:
        for number in range(30_000):
            spread.add(number * 37)
            names.add(f"name {number % 10_000}")
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert size < 600_000
    assert len(names.counts) == 50
    assert names.most(2) == [("name 0", 3), ("name 1", 3), ("others", 29_994)]
    assert sum(names.to_row().values()) == 30_000


class Page(HTMLParser):
    """Notes what a page would fetch, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe")
        self.fetched += [value for name, value in attrs if name in ("src", "srcset", "href") and value]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    strange = EXAMPLE.model_copy(update={"licence": "<script>$x^2$", "source": "書/物語"})
    files = write_report(counted(EXAMPLE, strange, STORY), tmp_path / "report")
    assert sorted(file.name for file in files) == sorted(
        file.name for file in (tmp_path / "report").iterdir()
    )
    assert {file.name for file in files} == {
        "stats.html",
        "stats.json",
        "lengths.png",
        "markup.png",
        "instructions.png",
        "origin.png",
    }
    page = Page()
    html = (tmp_path / "report" / "stats.html").read_text(encoding="utf-8")
    page.feed(html)
    assert len(page.fetched) == 8
    for link in page.fetched:
        assert link.startswith("data:image/png;base64,")
        with Image.open(BytesIO(b64decode(link.partition(",")[2]))) as image:
            assert image.size[0] > 400
    assert "<script>$x^2$" in page.text
    assert re.search("2 examples, 1 tagged stories", page.text)
    assert json.loads((tmp_path / "report" / "stats.json").read_text())["rows"]["examples"] == 2
    assert "prefers-color-scheme: dark" in html


def test_spans_and_weights_that_cannot_be_meant_are_counted_all_the_same() -> None:
    wrong = STORY.model_copy(update={"doubtful": ((7, 0), (0, 10**9))})
    found = counted(wrong, EXAMPLE.model_copy(update={"weight": 1.7976931348623157e308}))
    assert found.spreads["share in doubt"].largest == 1
    assert found.spreads["weight"].largest == tally._LARGEST
    assert "instructions" in draw(found, LIGHT)


def test_nobody_says_how_many_names_were_not_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tally, "_MOST_NAMES", 2)
    names = Names()
    for name in "abcdd":
        names.add(name)
    assert names.to_row() == {"a": 1, "b": 1, "others": 3}


def test_no_more_than_everything_is_speech() -> None:
    """A word that a tag divides is two words of speech, and one of the text."""
    tag = '<quote speaker="32AN4R">'
    found = counted(EXAMPLE.model_copy(update={"completion": f"{tag}a</quote>{tag}b</quote>"}))
    assert found.spreads["share of speech"].largest == 1


def test_pictures_have_the_colours_of_their_page() -> None:
    found = Tally()
    found.spreads["story, words"] = Spread()
    found.spreads["story, words"].add(3)
    for theme in (LIGHT, DARK):
        pictures = draw(found, theme)
        with Image.open(BytesIO(pictures["lengths"])) as image:
            corner = image.convert("RGB").getpixel((0, 0))
        assert corner == tuple(bytes.fromhex(theme.page[1:]))
        assert draw(found, theme) == pictures


@pytest.mark.parametrize("largest", [1, 39, 40, 50_000])
@pytest.mark.parametrize("least", [0, 1, 0.5])
def test_every_kind_of_axis_can_be_drawn(least: float, largest: float) -> None:
    found = Tally()
    found.spreads["weight"] = Spread()
    for value in (least, 1, largest):
        found.spreads["weight"].add(value)
    assert list(draw(found, LIGHT)) == ["instructions"]


def test_nothing_is_counted_and_shown(tmp_path: Path) -> None:
    assert {file.name for file in write_report(Tally(), tmp_path / "report")} == {"stats.html", "stats.json"}


def test_files_of_either_kind_are_read(tmp_path: Path) -> None:
    write_examples(tmp_path / "a.parquet", [EXAMPLE])
    write_tagged(tmp_path / "b.jsonl", [STORY])
    (tmp_path / "c.jsonl").write_bytes(b"\n")
    names = ("b.jsonl", "c.jsonl", "a.parquet")
    assert list(read_any(tmp_path / name for name in names)) == [STORY, EXAMPLE]
    (tmp_path / "d.jsonl").write_bytes(b'{"text": "x"}')
    with pytest.raises(InputError, match=r"d\.jsonl: holds neither examples nor tagged stories"):
        list(read_any([tmp_path / "d.jsonl"]))
