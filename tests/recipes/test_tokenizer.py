import re
import warnings
from pathlib import Path

import llguidance.hf
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from recipes.nano import corpora as corpora_module
from recipes.nano import tokenizer
from tests.recipes.conftest import STORIES

FRAGMENTS = st.sampled_from(
    [
        *tokenizer.TAGS,
        *STORIES,
        '">',
        "32AN4R",
        "AB12",
        "\r\n",
        "\r",
        "\x00",
        "\u2028",
        "👩‍👩‍👧",
        "שָׁלוֹם",
        "مرحبا",
        "  \n\n ",
        "ǅ",
        "İI",
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(FRAGMENTS, st.text(max_size=12)), max_size=6).map("".join))
@example('\ufeff<quote speaker="32AN4R">a</quote>\r\n\x1f\x7f\u200f')
def test_every_text_comes_back(bpe: Tokenizer, text: str) -> None:
    assert bpe.decode(bpe.encode(text).ids, skip_special_tokens=False) == text


@settings(max_examples=60, deadline=None)
@given(st.text("ABCXYZ0189", min_size=6, max_size=6))
def test_a_speaker_id_is_the_same_six_tokens_in_sheet_and_quote(bpe: Tokenizer, speaker: str) -> None:
    sheet = bpe.encode(f"- Name: Mara\n- Speaker ID: {speaker}\n</MaraDescription>").tokens
    quote = bpe.encode(f'the end. <quote speaker="{speaker}">Go!</quote>').tokens
    for tokens, before in ((sheet, "Speaker ID: "), (quote, '<quote speaker="')):
        start = tokens.index(before) + 1
        assert tokens[start : start + 6] == list(speaker)
    assert quote[quote.index('<quote speaker="') + 7] == '">'


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("The fox's den", ["The", " fox", "'s", " den"]),
        ("didn’t go.", ["didn", "’t", " go", "."]),
        ("MaraVoss", ["Mara", "Voss"]),
        ("in 1912\n\nCHAPTER", ["in", " ", "1", "9", "1", "2", "\n\n", "C", "H", "A", "P", "T", "E", "R"]),
        ("a  b\tc", ["a", " ", " b", "\t", "c"]),
        ("go\r\n\r\non", ["go", "\r\n\r\n", "on"]),
        ("été ÉCOLE", ["été", " É", "C", "O", "L", "E"]),
    ],
)
def test_pieces(bpe: Tokenizer, text: str, pieces: list[str]) -> None:
    found = bpe.pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in found] == pieces


def test_special_tokens_come_first_and_tags_last(bpe: Tokenizer) -> None:
    assert [bpe.token_to_id(token) for token in tokenizer.SPECIAL] == [0, 1, 2, 3]
    size = bpe.get_vocab_size()
    assert [bpe.token_to_id(tag) for tag in tokenizer.TAGS] == list(range(size - len(tokenizer.TAGS), size))


def test_prose_leaves_no_tag() -> None:
    text = '<quote speaker="32AN4R">Go.</quote> <sound>x</sound>'
    assert not re.search('<|"', tokenizer.prose(text).replace('">', ""))


@pytest.fixture(scope="module")
def folder(bpe: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tokenizer") / "saved"
    tokenizer.save(bpe, made)
    return made


def test_saved_folder_loads_without_warnings(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = AutoTokenizer.from_pretrained(folder)
    assert not caplog.records
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 1, 2)
    assert loaded.convert_tokens_to_ids("<|write|>") == 3
    for text in STORIES:
        assert loaded.decode(loaded(text).input_ids) == text


def test_chat_template_is_bos_prompt_write(folder: Path) -> None:
    loaded = tokenizer.load(folder)
    asked = [{"role": "user", "content": "<pastStory>\nx { % }\n</pastStory>"}]
    prompt = loaded.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert prompt == "<|startoftext|><pastStory>\nx { % }\n</pastStory><|write|>"
    told = loaded.apply_chat_template([*asked, {"role": "assistant", "content": "Go."}], tokenize=False)
    assert told == prompt + "Go.<|endoftext|>"


def test_tags_stay_when_special_tokens_are_skipped(folder: Path) -> None:
    loaded = tokenizer.load(folder)
    text = '<quote speaker="32AN4R">Go.</quote><action>x</action><sound>y</sound>'
    ids = loaded(f"<|startoftext|>{text}<|endoftext|>").input_ids
    assert loaded.decode(ids, skip_special_tokens=True) == text


def test_llguidance_reads_it(folder: Path) -> None:
    guide = llguidance.hf.from_tokenizer(tokenizer.load(folder))
    text = '<quote speaker="32AN4R">Grüße</quote>'
    assert guide.decode_str(guide.tokenize_str(text)) == text
    assert guide.eos_token == 2


def test_sample_leaves_out_what_is_held_out(corpora: Path) -> None:
    sampled = set(tokenizer.sample(corpora, seed=1, stories=2))
    documents = list(corpora_module.read(corpora, "simple_en"))
    kept = {document.text for document in documents if corpora_module.held_out(document.id)}
    assert kept
    assert not kept & sampled
    assert {document.text for document in documents} - kept <= sampled
