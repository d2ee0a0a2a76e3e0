"""The local generator on a tiny random model: under the constraint even noise is a well-formed story."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from spellbound.directives import Character, Open, StoryPrompt, Text, parse
from spellbound.errors import ModelError
from spellbound.story import WriteOptions, collect
from spellbound.story.local import LocalGenerator
from tests.conftest import write_tokenizer

CAST = (Character("Mara", "32AN4R"), Character("Tom", "K7Q2ZX"))
PROMPT = StoryPrompt(CAST, "The fog came in. Nobody spoke a word.", ("Let Tom speak.",))


@pytest.fixture(scope="module")
def local(tiny_folder: Path) -> LocalGenerator:
    return LocalGenerator(tiny_folder)


def hot(seed: int, **changes: object) -> WriteOptions:
    """Noise: every allowed token is nearly as likely as any other."""
    settings = {"temperature": 2.0, "min_p": 0.0, "seed": seed, "max_tokens": 120} | changes
    return WriteOptions(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(12))
def test_constrained_noise_is_well_formed(local: LocalGenerator, seed: int) -> None:
    text, ending = collect(local.write(PROMPT, hot(seed)))
    assert ending.repairs == ()
    speakers = {
        event.speaker for event in parse(text, CAST) if isinstance(event, Open) and event.kind == "quote"
    }
    assert speakers <= {"32AN4R", "K7Q2ZX"}
    assert "�" not in text


def test_the_noise_above_does_contain_tags(local: LocalGenerator) -> None:
    texts = [collect(local.write(PROMPT, hot(seed)))[0] for seed in range(5)]
    assert {type(event).__name__ for text in texts for event in parse(text)} == {"Open", "Text", "Close"}


@pytest.mark.parametrize("seed", range(3))
def test_without_the_constraint_noise_is_mended(local: LocalGenerator, seed: int) -> None:
    text, _ = collect(local.write(PROMPT, hot(seed, constrain=False)))
    again, ending = collect_again(text)
    assert again == text
    assert ending == []


def collect_again(text: str) -> tuple[str, list[object]]:
    from spellbound.story import Pen

    pen = Pen()
    return pen.write(text) + pen.finish(cut=False), list(pen.repairs)


@pytest.mark.parametrize(
    "prompt",
    [StoryPrompt(CAST, "Fog.", ("Go on.",), tags=False), StoryPrompt((), "Fog.", ("Go on.",))],
    ids=["no tags", "no cast"],
)
def test_nobody_speaks_where_nobody_may(local: LocalGenerator, prompt: StoryPrompt) -> None:
    for seed in range(4):
        kinds = {
            event.kind
            for event in parse(collect(local.write(prompt, hot(seed)))[0])
            if isinstance(event, Open)
        }
        assert kinds <= (set() if not prompt.tags else {"action", "sound"})


def test_same_seed_same_bytes(tiny_folder: Path, local: LocalGenerator) -> None:
    other = LocalGenerator(tiny_folder)
    text = collect(other.write(PROMPT, hot(5)))[0]
    assert collect(local.write(PROMPT, hot(5)))[0] == text
    assert collect(local.write(PROMPT, hot(6)))[0] != text


def test_words_are_a_least_number(local: LocalGenerator) -> None:
    _, ending = collect(local.write(PROMPT, hot(1, words=2, max_tokens=400)))
    assert ending.words >= 2


def test_budget_in_the_middle_of_a_tag_or_character(local: LocalGenerator) -> None:
    for limit in range(1, 40, 3):
        text, ending = collect(local.write(PROMPT, hot(2, max_tokens=limit, words=1000)))
        assert collect_again(text) == (text, [])
        assert (ending.reason, ending.usage.written_tokens) == ("length", limit)


def test_cancelled(local: LocalGenerator) -> None:
    asked = 0

    def cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 30

    text, ending = collect(local.write(PROMPT, hot(3), cancelled))
    assert ending.reason == "cancelled"
    assert collect_again(text) == (text, [])


def test_the_next_turn_reads_what_was_added(tiny_folder: Path) -> None:
    local = LocalGenerator(tiny_folder)
    _, first = collect(local.write(PROMPT, hot(1)))
    assert first.usage.reused_tokens == 0
    turn = StoryPrompt(CAST, f"{PROMPT.past_story}\n\nThen a bell rang.", ("Mara answers.",))
    text, second = collect(local.write(turn, hot(1)))
    assert second.usage.reused_tokens > first.usage.prompt_tokens - 90
    cold, _ = collect(LocalGenerator(tiny_folder).write(turn, hot(1)))
    assert text == cold


def test_a_changed_past_reuses_the_cast(tiny_folder: Path) -> None:
    local = LocalGenerator(tiny_folder)
    collect(local.write(PROMPT, hot(1)))
    _, ending = collect(local.write(StoryPrompt(CAST, "Another beginning.", ()), hot(1)))
    assert ending.usage.reused_tokens == 1 + PROMPT.render().index("<pastStory>")


def test_chat_template_is_used(local: LocalGenerator) -> None:
    ids, _ = local.prompt_tokens(PROMPT)
    assert (ids[0], ids[-1]) == (1, 3)


@pytest.mark.parametrize("template", ["{{ raise_exception('no system message') }}", "{% nonsense %}"])
def test_a_template_that_refuses_is_named(tiny_folder: Path, tmp_path: Path, template: str) -> None:
    folder = copied(tiny_folder, tmp_path)
    write_tokenizer(folder, template=template)
    with pytest.raises(ModelError, match="the chat template refuses a single message of the user: "):
        LocalGenerator(folder).prompt_tokens(PROMPT)


def test_without_a_template_the_text_follows_the_start(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copied(tiny_folder, tmp_path)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    write_tokenizer(folder, template=None)
    generator = LocalGenerator(folder)
    ids, _ = generator.prompt_tokens(PROMPT)
    assert ids[0] == 1
    assert len(ids) == len(local_bytes(PROMPT)) + 2


def local_bytes(prompt: StoryPrompt) -> bytes:
    return prompt.render().encode()


def test_control_tokens_in_a_story_are_letters(local: LocalGenerator) -> None:
    prompt = StoryPrompt(CAST, "He wrote <|endoftext|> and <|write|> on the wall.", ("Go on.",))
    ids, places = local.prompt_tokens(prompt)
    assert ids.count(2) == 0
    assert ids.count(3) == 1
    assert places == []


def copied(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target / "model"))


def test_folders_that_are_no_models(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        LocalGenerator(tmp_path / "nowhere")
    for name, message in (
        ("tokenizer.json", "tokenizer.json is missing"),
        ("config.json", "config.json is missing"),
        ("model.safetensors", "model.safetensors is missing"),
    ):
        folder = copied(tiny_folder, tmp_path / name)
        (folder / name).unlink()
        with pytest.raises(ModelError, match=message):
            LocalGenerator(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{", "the tokenizer cannot be loaded"),
        ("tokenizer.json", "[]", "holds no tokenizer"),
        ("config.json", "{", "config.json: cannot be read"),
        ("config.json", '{"model_type": "llama"}', "model_type is 'llama'"),
        ("model.safetensors", "junk", "not a whole safetensors file"),
        ("generation_config.json", "{", "generation_config.json: cannot be read"),
        ("generation_config.json", "[]", "generation_config.json: cannot be read: it holds no settings"),
        ("generation_config.json", '{"eos_token_id": "x"}', "eos_token_id is 'x', not a number"),
    ],
)
def test_spoilt_files(tiny_folder: Path, tmp_path: Path, name: str, content: str, message: str) -> None:
    folder = copied(tiny_folder, tmp_path)
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        LocalGenerator(folder)


def test_a_tokenizer_of_another_model(tiny_folder: Path, tmp_path: Path) -> None:
    folder = copied(tiny_folder, tmp_path)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    added = tokenizer["added_tokens"]
    added += [{**added[-1], "id": 400 + number, "content": f"extra{number}"} for number in range(80)]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(ModelError, match="do not belong together"):
        LocalGenerator(folder)


def test_a_stop_string_ends_a_passage(local: LocalGenerator) -> None:
    def words(tagged: str) -> str:
        return "".join(event.text for event in parse(tagged) if isinstance(event, Text))

    whole = words(collect(local.write(PROMPT, hot(1)))[0])
    stop = whole[len(whole) // 2 :][:3]
    tagged, ending = collect(local.write(PROMPT, replace(hot(1), stop=(stop,))))
    assert ending.reason == "stop"
    assert stop not in words(tagged)
    assert whole.startswith(words(tagged).rstrip())
