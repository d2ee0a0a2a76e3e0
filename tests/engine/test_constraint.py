"""Masks and commits of the llguidance constraint, as a table: accepted, refused, and unfinished."""

import json
import re
from pathlib import Path

import pytest
import torch

from spellbound.directives import grammar
from spellbound.engine import Vocabulary
from spellbound.engine.constraint import forbid
from spellbound.errors import InputError, ModelError

SIZE, END = 320, 2
# As the tokenizer cuts it: the tags that are one token, else bytes.
PIECE = re.compile(rb'<quote speaker="|">|</quote>|</?(?:action|sound)>|.', re.DOTALL)
CAST = ("AAAAAA", "BBBBBB")


@pytest.fixture(scope="module")
def vocabulary(tiny_folder: Path) -> Vocabulary:
    text = (tiny_folder / "tokenizer.json").read_text(encoding="utf-8")
    return Vocabulary(text, size=SIZE, stop_ids=[END])


@pytest.fixture(scope="module")
def ids(vocabulary: Vocabulary) -> dict[bytes, int]:
    return {vocabulary.token_bytes(token): token for token in range(SIZE) if vocabulary.token_bytes(token)}


def read(vocabulary: Vocabulary, ids: dict[bytes, int], text: str, *, tags: bool = True) -> tuple[int, bool]:
    """How many bytes of a text are allowed one after the other, and whether it may end after them."""
    constraint = vocabulary.constraint(grammar(CAST, tags=tags))
    place = 0
    for piece in PIECE.findall(text.encode()):
        token = ids[piece]
        if not bool(constraint.allowed()[token]):
            return place, constraint.finished
        constraint.commit(token)
        place += len(piece)
    assert bool(constraint.allowed()[END]) == constraint.finished
    return len(text.encode()), constraint.finished


@pytest.mark.parametrize(
    ("text", "accepted", "finished"),
    [
        ("", 0, True),
        ("Plain prose, “quoted”, über ﷺ.\n", None, True),
        ('<quote speaker="AAAAAA">Hi</quote>', None, True),
        ('<quote speaker="BBBBBB"></quote> and', None, True),
        ("<action>a <sound>b</sound></action>", None, True),
        ('<quote speaker="AAAAAA">Hi', None, False),
        ("<sou", None, False),
        ('<quote speaker="CCCCCC">', 16, False),
        ('<quote speaker="AAAAAB">', 21, False),
        ("<quote>", 6, False),
        ("a < b", 3, False),
        ("a > b", 2, True),
        ("</quote>", 0, True),
        ("<action><action>", 8, False),
    ],
)
def test_texts(
    vocabulary: Vocabulary, ids: dict[bytes, int], text: str, accepted: int | None, finished: bool
) -> None:
    assert read(vocabulary, ids, text) == (len(text.encode()) if accepted is None else accepted, finished)


def test_without_tags_no_tag_begins(vocabulary: Vocabulary, ids: dict[bytes, int]) -> None:
    assert read(vocabulary, ids, "a<", tags=False) == (1, True)


def test_special_and_unused_tokens_are_never_allowed(vocabulary: Vocabulary) -> None:
    allowed = vocabulary.constraint(grammar(CAST)).allowed()
    assert allowed.shape == (SIZE,)
    assert not allowed[[0, 1, 3]].any()
    assert not allowed[270:].any()
    assert vocabulary.token_bytes(1) == vocabulary.token_bytes(319) == b""


def test_tags_can_be_single_tokens(vocabulary: Vocabulary, ids: dict[bytes, int]) -> None:
    constraint = vocabulary.constraint(grammar(CAST))
    for piece in (b'<quote speaker="', *(b"A" for _ in range(6)), b'">', b"x", b"</quote>"):
        assert bool(constraint.allowed()[ids[piece]])
        constraint.commit(ids[piece])
    assert constraint.finished


def test_a_refused_token_is_an_error(vocabulary: Vocabulary, ids: dict[bytes, int]) -> None:
    with pytest.raises(InputError, match="the constraint cannot go on"):
        vocabulary.constraint(grammar(CAST)).commit(ids[b">"])


def test_bad_grammar_and_bad_tokenizer_are_named(vocabulary: Vocabulary) -> None:
    with pytest.raises(InputError, match=r"the grammar cannot be used: .*nothing"):
        vocabulary.constraint("start: nothing")
    with pytest.raises(ModelError, match="the tokenizer cannot be read"):
        Vocabulary("{}", size=4, stop_ids=[0])


def test_a_grammar_that_means_all_in_countless_ways_is_given_up(
    vocabulary: Vocabulary, ids: dict[bytes, int]
) -> None:
    constraint = vocabulary.constraint("start: s\ns: s s s | s s | /./ | ")

    def go_on() -> None:
        for _ in range(200):  # a step would take seconds at the end
            constraint.allowed()
            constraint.commit(ids[b"a"])

    with pytest.raises(InputError, match="cannot go on: parser error: Too many items"):
        go_on()


def test_a_schema_of_many_alternatives_is_not(vocabulary: Vocabulary) -> None:
    kinds = [
        {"type": "object", "properties": {f"p{kind}{key}": {"type": "integer"} for key in range(10)}}
        for kind in range(30)
    ]
    rules = json.dumps({"grammars": [{"json_schema": {"anyOf": kinds}}]})
    assert bool(vocabulary.constraint(rules).allowed().any())


def test_forbid() -> None:
    row = forbid(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, False, True]))
    assert row.tolist() == [1.0, float("-inf"), 3.0]
