"""The instructor: instructions that quote nothing, summaries for what is cut off, and its own judgement."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spellbound.data.documents import Document
from spellbound.data.instructions import instructor
from spellbound.data.tagged import TaggedStory
from spellbound.data.teacher import TeacherAnnotator, TeacherInstructor
from spellbound.data.teacher.overlap import longest_run
from spellbound.errors import InputError
from tests.data.teacher import model
from tests.data.teacher.conftest import MakeTeacher
from tests.data.teacher.loopback import Loopback, says

SMALL: dict[str, Any] = {"completion_words": (30, 60), "past_words": (20, 60), "without_past": 0.0}


@pytest.fixture
def right(server: Loopback) -> Loopback:
    server.answer = model.answers
    return server


@pytest.fixture
def story(right: Loopback, make_teacher: MakeTeacher) -> TaggedStory:
    made = TeacherAnnotator(make_teacher()).annotate(
        Document(id="harbour", text=model.novel(12), language="en", licence="CC0-1.0")
    )
    right.requests.clear()
    return made


def test_examples_have_instructions_and_origins(story: TaggedStory, make_teacher: MakeTeacher) -> None:
    examples = list(TeacherInstructor(make_teacher(), constraints=(2, 3), **SMALL).instruct(story))
    assert len(examples) > 5
    assert len({example.id for example in examples}) == len(examples)
    for example in examples:
        first, *wishes = example.prompt.instructions
        assert first == "Let it be evening."
        assert wishes in (["Wish 0.", "Wish 1."], ["Wish 0.", "Wish 1.", "Wish 2."])
        assert example.source == "harbour"
        assert example.licence == "CC0-1.0"
        assert example.provenance.annotator == "teacher+teacher"
        assert example.provenance.model == "m"
        assert example.completion
    assert examples == list(TeacherInstructor(make_teacher(), constraints=(2, 3), **SMALL).instruct(story))
    others = TeacherInstructor(make_teacher(), constraints=(2, 4), **SMALL).instruct(story)
    assert {example.id for example in others}.isdisjoint(example.id for example in examples)


def test_what_quotes_the_answer_is_asked_again(
    story: TaggedStory, server: Loopback, make_teacher: MakeTeacher
) -> None:
    quoting = {"instruction": "Mara Voss came down to the harbour again.", "constraints": ["Be brief."]}
    server.answer = lambda handler, body: (
        says(quoting)(handler, body) if len(body["messages"]) == 2 else model.answers(handler, body)
    )
    teacher = make_teacher()
    examples = list(TeacherInstructor(teacher, most=3, **SMALL).instruct(story))
    assert len(examples) == 3
    assert teacher.usage.explained == 3
    told = server.requests[-1]["messages"][-1]["content"]
    assert re.search(r"The words 'Mara Voss came down to the harbour' are taken over", told)


FAULTS: dict[str, dict[str, Any]] = {
    "An instruction is empty": {"instruction": " ", "constraints": ["Be brief."]},
    "There are 0 constraints": {"instruction": "Go on.", "constraints": []},
    "There are 3 constraints; give 2": {"instruction": "Go on.", "constraints": ["1", "2", "3"]},
    "has 90 words": {"instruction": "so " * 90, "constraints": ["Be brief."]},
    "Two of the texts are the same": {"instruction": "Go on.", "constraints": ["go on. "]},
}


@pytest.mark.parametrize(("fault", "answer"), FAULTS.items(), ids=FAULTS)
def test_what_stays_wrong_makes_no_example(
    fault: str, answer: Any, story: TaggedStory, server: Loopback, make_teacher: MakeTeacher
) -> None:
    server.answer = says(answer)
    teacher = make_teacher(attempts=2)
    assert list(TeacherInstructor(teacher, most=1, constraints=(2, 2), **SMALL).instruct(story)) == []
    assert teacher.usage.refused == 1
    assert fault in server.requests[-1]["messages"][-1]["content"]


def test_what_the_teacher_likes_little_is_left_out(
    story: TaggedStory, server: Loopback, make_teacher: MakeTeacher
) -> None:
    def answer(handler: Any, body: dict[str, Any]) -> bool:
        asked = body["messages"][1]["content"]
        if body["response_format"]["json_schema"]["name"] == "score":
            return says({"reason": "so", "score": 5 if "evening 2" in asked else 3})(handler, body)
        return model.answers(handler, body)

    server.answer = answer
    kept = list(TeacherInstructor(make_teacher(), keep_score=4, **SMALL).instruct(story))
    every = list(TeacherInstructor(make_teacher(), **SMALL).instruct(story))
    assert 0 < len(kept) < len(every)
    assert all("evening 2" in example.completion for example in kept)


def test_a_past_that_is_cut_off_is_summed_up(story: TaggedStory, make_teacher: MakeTeacher) -> None:
    plain = list(TeacherInstructor(make_teacher(), **SMALL).instruct(story))
    made = list(TeacherInstructor(make_teacher(), summaries=1.0, **SMALL).instruct(story))
    assert [example.completion for example in made] == [example.completion for example in plain]
    summed = [example for example in made if "* * *" in example.prompt.past_story]
    assert len(summed) > 3
    for example in summed:
        summary, _, past = example.prompt.past_story.partition("\n\n* * *\n\n")
        before = [int(number) for number in re.findall(r"\d+", summary)]
        # Everything before is in the summary, in order, and nothing of what follows.
        assert before == sorted(before)
        assert before[0] == 0
        assert before[-1] <= int(re.findall(r"evening (\d+)|rang (\d+)", past)[0][0] or 99)


def test_settings_that_cannot_work_are_refused(make_teacher: MakeTeacher) -> None:
    teacher = make_teacher()
    for wrong in (
        {"constraints": (0, 2)},
        {"keep_score": 6},
        {"summaries": 2.0},
        {"summary_words": 3},
        {"completion_words": (9, 3)},
    ):
        with pytest.raises(InputError):
            TeacherInstructor(teacher, **wrong)
    with pytest.raises(InputError, match="'speed' is unknown beside a teacher"):
        TeacherInstructor(teacher, speed=3)


def test_it_comes_by_name(story: TaggedStory, right: Loopback, tmp_path: Any) -> None:
    values = {"model": "m", "cache": tmp_path, "base_url": right.url, "seed": 7, "most": 2, **SMALL}
    made = instructor("teacher", **values)
    assert isinstance(made, TeacherInstructor)
    assert made.windows.seed == made.teacher.settings.seed == 7
    assert len(list(made.instruct(story))) == 2
    made.teacher.close()
    with pytest.raises(InputError, match="'speed' is unknown"):
        instructor("teacher", **values, speed=3)


def test_runs_are_found() -> None:
    source = "The cat, in fact, sat on the old mat and slept."
    assert longest_run("He said the CAT in fact sat!", source, 4) == "the CAT in fact sat"
    assert longest_run("the cat in fact", source, 4) == ""
    assert longest_run("", source, 4) == longest_run("the cat", "", 4) == ""


WORDS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=12)


@settings(deadline=None)
@given(WORDS, WORDS, st.integers(1, 5))
def test_a_run_is_found_exactly_when_there_is_one(text: list[str], source: list[str], most: int) -> None:
    grams = [tuple(text[at : at + most + 1]) for at in range(len(text) - most)]
    there = {tuple(source[at : at + most + 1]) for at in range(len(source) - most)}
    run = longest_run(" ".join(text), " ".join(source), most)
    assert bool(run) == any(gram in there for gram in grams)
    assert len(run.split()) != most if run else True
