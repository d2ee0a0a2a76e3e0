"""The annotator against a model that is right, and one that first is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spellbound.data.annotators import annotator
from spellbound.data.documents import Document, Person
from spellbound.data.instructions import instructor
from spellbound.data.tagged import AnnotationRefused, require_lossless
from spellbound.data.teacher import TeacherAnnotator, TeacherInstructor, TeacherStopped
from spellbound.directives import StreamParser
from spellbound.errors import InputError
from tests.data.teacher import model
from tests.data.teacher.conftest import MakeTeacher
from tests.data.teacher.loopback import Behaviour, Loopback, cuts, fails, says, sends

STORY = Document(
    id="harbour", text=model.novel(6), language="en", title="Harbour", licence="CC0-1.0", source="corpus"
)


@pytest.fixture
def right(server: Loopback) -> Loopback:
    server.answer = model.answers
    return server


def test_a_document_is_tagged(right: Loopback, make_teacher: MakeTeacher) -> None:
    story = TeacherAnnotator(make_teacher(), passage_words=80).annotate(STORY)
    require_lossless(STORY, story.text)
    parser = StreamParser(story.cast)
    parser.feed(story.text)
    assert parser.repairs == []
    ids = {character.name: character.speaker_id for character in story.cast}
    assert set(ids) == {"Mara Voss", "John"}
    assert story.text.count(f'<quote speaker="{ids["Mara Voss"]}">') == 6
    assert story.text.count(f'<quote speaker="{ids["John"]}">') == 12
    assert story.text.count("<sound>") == 6
    assert "water &amp; the" not in story.text
    assert "&lt;wind&gt;" in story.text
    assert story.doubtful == ()
    assert story.cast[0].details[0] == ("Also called", "Mara")
    assert (story.title, story.licence, story.source, story.language) == (
        "Harbour",
        "CC0-1.0",
        "corpus",
        "en",
    )
    assert story.provenance.annotator == "teacher"
    assert story.provenance.model == "m"
    assert set(story.provenance.versions) == {"spellbound", "teacher prompts"}


def test_the_same_again_without_a_call(right: Loopback, make_teacher: MakeTeacher) -> None:
    first = TeacherAnnotator(make_teacher(), passage_words=80).annotate(STORY)
    count = len(right.requests)
    assert TeacherAnnotator(make_teacher(), passage_words=80).annotate(STORY) == first
    assert len(right.requests) == count


def test_everything_that_can_go_wrong_does(right: Loopback, make_teacher: MakeTeacher) -> None:
    expected = TeacherAnnotator(make_teacher(), passage_words=80).annotate(STORY)
    bad: list[Behaviour] = [
        fails(429, Retry_After="0"),
        fails(500),
        cuts,
        sends(b"not json"),
        says("not json"),
        says({"characters": [{"name": "Nobody"}]}),
        fails(503),
        cuts,
        says("", finish="length"),
    ]
    right.script.extend(bad)
    teacher = make_teacher(cache=make_teacher().settings.cache / "new", attempts=6)
    assert TeacherAnnotator(teacher, passage_words=80).annotate(STORY) == expected
    assert teacher.usage.refused == 0
    assert teacher.usage.explained == 3


def marks_first(server: Loopback, *wrong: Any) -> list[dict[str, Any]]:
    """Give wrong answers to the first requests for marks; what was asked for marks is returned."""
    left = list(wrong)
    asked: list[dict[str, Any]] = []

    def answer(handler: Any, body: dict[str, Any]) -> bool:
        if body["response_format"]["json_schema"]["name"] == "marks":
            asked.append(body)
            if left:
                return says({"marks": left.pop(0)})(handler, body)
        return model.answers(handler, body)

    server.answer = answer
    return asked


SHORT = Document(id="short", text="“Who is there?” said Mara.\n\n“Me.” John smiled.", language="en")
GOOD = [model._mark(1, "quote", "Mara", "“Who is there?”"), model._mark(2, "quote", "John", "“Me.”")]
WRONG: dict[str, tuple[list[Any], str]] = {
    "text changed": ([{**GOOD[0], "begins": "“Who goes there?”"}, GOOD[1]], "do not stand there"),
    "outside the cast": ([GOOD[0], {**GOOD[1], "speaker": "Ahab"}], "'Ahab' is not in the cast"),
    "one left out": ([GOOD[0]], "'“Me.”' has no mark"),
    "overlapping": ([GOOD[0], {**GOOD[0], "begins": "there?” said"}, GOOD[1]], "overlaps another"),
    "another paragraph": ([GOOD[0], {**GOOD[1], "paragraph": 3}], "no paragraph 3"),
}


@pytest.mark.parametrize(("wrong", "fault"), WRONG.values(), ids=WRONG)
def test_wrong_tags_are_explained(
    wrong: list[Any], fault: str, server: Loopback, make_teacher: MakeTeacher
) -> None:
    asked = marks_first(server, wrong)
    story = TeacherAnnotator(make_teacher()).annotate(SHORT)
    assert story.text.count("<quote") == 2
    assert story.doubtful == ()
    assert len(asked) == 2
    assert fault in asked[1]["messages"][-1]["content"]
    assert json.loads(asked[1]["messages"][-2]["content"]) == {"marks": wrong}


def test_what_stays_wrong_is_left_out_and_doubtful(server: Loopback, make_teacher: MakeTeacher) -> None:
    wrong = [GOOD[0], {**GOOD[1], "speaker": "Ahab"}]
    marks_first(server, wrong, wrong, wrong)
    teacher = make_teacher()
    story = TeacherAnnotator(teacher).annotate(SHORT)
    assert story.text.count("<quote") == 1
    assert [SHORT.text[start:end] for start, end in story.doubtful] == ["“Me.” John smiled."]
    assert teacher.usage.refused == 1
    require_lossless(SHORT, story.text)


def test_a_speaker_nobody_knows_is_doubtful(server: Loopback, make_teacher: MakeTeacher) -> None:
    marks_first(server, [GOOD[0], {**GOOD[1], "speaker": "unknown"}])
    story = TeacherAnnotator(make_teacher()).annotate(SHORT)
    assert [SHORT.text[start:end] for start, end in story.doubtful] == ["“Me.”"]
    assert story.text.endswith("“Me.” John smiled.")


def test_a_document_that_is_mostly_wrong_is_refused(server: Loopback, make_teacher: MakeTeacher) -> None:
    server.answer = says("I would rather talk about the weather.")
    with pytest.raises(AnnotationRefused, match="short: its tags cannot be trusted in 46 of 46 characters"):
        TeacherAnnotator(make_teacher()).annotate(SHORT)


@pytest.mark.parametrize(("text", "message"), [(" \n", "has no text"), ("a\ud800b", "half a character at 1")])
def test_a_text_that_cannot_be_sent_is_refused(text: str, message: str, make_teacher: MakeTeacher) -> None:
    with pytest.raises(AnnotationRefused, match=message):
        TeacherAnnotator(make_teacher()).annotate(Document(id="d", text=text))


def test_those_whom_the_source_lists_are_in_the_cast(right: Loopback, make_teacher: MakeTeacher) -> None:
    cast = (Person(id="1", name="John", gender="male"), Person(id="2", name="Ishmael"))
    story = TeacherAnnotator(make_teacher()).annotate(Document(id="d", text=SHORT.text, cast=cast))
    assert {character.name for character in story.cast} == {"Mara", "John", "Ishmael"}
    assert "The source lists these characters; use their names: John, Ishmael" in str(right.requests[0])


def test_at_a_limit_nothing_is_lost(right: Loopback, make_teacher: MakeTeacher) -> None:
    prices = {"input_price": 100.0, "answer_tokens": 16}
    with pytest.raises(TeacherStopped, match="cost limit"):
        TeacherAnnotator(make_teacher(cost_limit=0.5, **prices), passage_words=40).annotate(STORY)
    paid = len(right.requests)
    assert paid > 0
    TeacherAnnotator(make_teacher(cost_limit=50.0, **prices), passage_words=40).annotate(STORY)
    assert max(right.paid.values()) == 1


def test_one_file_serves_both_tasks(right: Loopback, tmp_path: Path) -> None:
    file = tmp_path / "teacher.toml"
    file.write_text(
        f"model = 'm'\ncache = 'kept'\nbase_url = '{right.url}'\nretries = 2\n"
        "[annotate]\npassage_words = 50\n[instruct]\nconstraints = [2, 3]\nseed = 5\nretries = 4\n"
    )
    one = annotator("teacher", settings=file, retries=3)
    two = instructor("teacher", settings=file)
    assert isinstance(one, TeacherAnnotator)
    assert isinstance(two, TeacherInstructor)
    assert (one.settings.passage_words, one.teacher.settings.retries) == (50, 3)
    assert (two.settings.constraints, two.windows.seed, two.teacher.settings.retries) == ((2, 3), 5, 4)
    assert one.teacher.settings.cache == two.teacher.settings.cache == tmp_path / "kept"
    one.teacher.close()
    two.teacher.close()
    file.write_text("model = 'm'\ncache = 'kept'\nannotate = 3")
    with pytest.raises(InputError, match=r"write \[annotate\]"):
        annotator("teacher", settings=file)
    file.write_text("model = 'm'\ncache = 'kept'\n[annotate]\nconstraints = [2, 3]")
    with pytest.raises(InputError, match="'constraints' is unknown"):
        annotator("teacher", settings=file)


def test_it_comes_by_name(right: Loopback, tmp_path: Any) -> None:
    values = {"model": "m", "cache": tmp_path, "base_url": right.url, "passage_words": 50}
    made = annotator("teacher", **values)
    assert isinstance(made, TeacherAnnotator)
    assert made.settings.passage_words == 50
    assert made.annotate(SHORT).text.count("<quote") == 2
    assert made.report().startswith("teacher: 2 calls")
    made.teacher.close()
    for wrong, message in ({"speed": 1}, "speed"), ({"passage_words": 3}, "passage_words 3"):
        with pytest.raises(InputError, match=message):
            annotator("teacher", **{**values, **wrong})
