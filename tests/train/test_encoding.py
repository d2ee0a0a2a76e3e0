"""Token ids of training are those of writing."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spellbound.directives import StoryPrompt
from spellbound.errors import ModelError
from spellbound.story.local import LocalGenerator
from spellbound.train.encoding import Encoder
from tests.conftest import SPECIALS, make_model, write_tokenizer
from tests.train.conftest import MARA, example

PROMPTS = [
    StoryPrompt((), "", ("Write.",)),
    StoryPrompt((MARA,), 'It rained.\n\n<quote speaker="32AN4R">No.</quote>', ("More.", "End well.")),
    StoryPrompt((MARA,), "Ünïcödé — „ja“ עברית", (), tags=False),
    StoryPrompt((), "A <|endoftext|> in the past, and <|write|>.", ("<|pad|>",)),
]
TEMPLATES = {
    "plain": None,
    "trailing": "{% for m in messages %}<|startoftext|> {{ m['content'] }}\n\n<|write|>{% endfor %}",
}


@pytest.fixture(scope="module", params=["tiny", *TEMPLATES])
def folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path
) -> Path:
    if request.param == "tiny":
        return tiny_folder
    made = tmp_path_factory.mktemp(request.param)
    write_tokenizer(made, TEMPLATES[request.param])
    make_model().save_pretrained(made)
    return made


def test_prompts_are_read_as_when_writing(folder: Path) -> None:
    generator, encoder = LocalGenerator(folder, device="cpu"), Encoder(folder)
    expected = [generator.prompt_tokens(prompt)[0] for prompt in PROMPTS]
    assert encoder.prompts([prompt.render() for prompt in PROMPTS]) == expected


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.lists(st.sampled_from([*SPECIALS, "<", ">", "a", "\n", " ", "é", "</quote>"]), max_size=12))
def test_any_text_is_read_as_when_writing(tiny_folder: Path, pieces: list[str]) -> None:
    prompt = StoryPrompt((), "".join(pieces), ())
    encoder = Encoder(tiny_folder)
    generator = _generator(tiny_folder)
    assert encoder.prompts([prompt.render()]) == [generator.prompt_tokens(prompt)[0]]


_LOADED: dict[Path, LocalGenerator] = {}


def _generator(folder: Path) -> LocalGenerator:
    if folder not in _LOADED:
        _LOADED[folder] = LocalGenerator(folder, device="cpu")
    return _LOADED[folder]


def test_an_example_is_prompt_completion_and_end(tiny_folder: Path) -> None:
    encoder, row = Encoder(tiny_folder), example(3)
    (made,) = encoder.examples([row])
    assert made.ids[: made.given] == encoder.prompts([row.prompt.render()])[0]
    assert encoder.tokenizer.decode(made.ids[made.given : -1]) == row.completion
    assert made.ids[-1] == encoder.tokenizer.eos_token_id


def test_control_tokens_in_completions_and_documents_are_letters(tiny_folder: Path) -> None:
    encoder = Encoder(tiny_folder)
    for ids in (
        encoder.examples([example(1, completion="An <|endoftext|>!")])[0],
        encoder.documents(["<|pad|>"])[0],
    ):
        control = {encoder.tokenizer.eos_token_id, encoder.tokenizer.pad_token_id}
        assert not control & set(ids.ids[ids.given : -1])
        assert ids.ids[-1] == encoder.tokenizer.eos_token_id


def test_a_document_is_learnt_whole(tiny_folder: Path) -> None:
    encoder = Encoder(tiny_folder)
    (made,) = encoder.documents(["Once."])
    assert made.given == 1
    assert encoder.tokenizer.decode(made.ids) == "<|startoftext|>Once.<|endoftext|>"


@pytest.mark.parametrize(
    ("template", "end"),
    [
        (None, "<|endoftext|>"),
        ("{{ messages[0]['content'] }}<|write|>", "<|endoftext|>"),
        ("{% for m in messages %}{{ m['content'] }}<|pad|>{% endfor %}", "<|pad|>"),
        (
            "{{ raise_exception('only the user') if messages|length > 1 }}{{ messages[0]['content'] }}",
            "<|endoftext|>",
        ),
    ],
)
def test_the_end_is_what_the_template_puts_after_an_answer(
    tmp_path: Path, template: str | None, end: str
) -> None:
    write_tokenizer(tmp_path, template)
    encoder = Encoder(tmp_path)
    assert encoder.tokenizer.decode([encoder.end_id]) == end


def test_a_tokenizer_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        Encoder(tmp_path)
    (tmp_path / "tokenizer.json").write_text("[]")
    with pytest.raises(ModelError, match="cannot be loaded"):
        Encoder(tmp_path)


def test_the_fingerprint_is_of_the_files(tmp_path: Path, tiny_folder: Path) -> None:
    write_tokenizer(tmp_path, None)
    plain = Encoder(tmp_path).fingerprint()
    assert plain != Encoder(tiny_folder).fingerprint()
    assert plain == Encoder(tmp_path).fingerprint()
