"""Plain models, for clients that know no tags: measured by the rules of such clients."""

import re
from typing import Any

import pytest

from spellbound.directives import StoryPrompt, grammar, parse, render
from spellbound.server.plain import PlainText, cast_of
from spellbound.server.settings import ServeSettings
from spellbound.story.completion import Message
from spellbound.story.local import LocalGenerator
from tests.server.running import CAST, PROMPT, running

CHAT: Any = [{"role": "user", "content": PROMPT.render()}]
TAGGED = (
    'The door stood open. <quote speaker="32AN4R">Tom? <action>She listened.</action> Are you there?</quote>'
    " she called. <sound>A bell rang.</sound>\n\n"
    '<quote speaker="K7Q2ZX">"Here," he said.</quote> Rain &amp; fog.'
)


def skip_tags(text: str) -> str:
    """What a popular front end reads aloud with "skip tagged blocks"."""
    return re.sub(r"<.*?>.*?</.*?>", "", text, flags=re.DOTALL)


def quoted_only(text: str) -> list[str]:
    """What it reads aloud with "only narrate quotes"."""
    straight = re.sub("[“”«»„]", '"', text)
    return re.findall(r'".*?"', straight)


def shaped(text: str, size: int, form: Any = "prose") -> str:
    shape = PlainText(form, "en", CAST)
    pieces = [shape.feed(text[start : start + size]) for start in range(0, len(text), size)]
    return "".join([*pieces, shape.finish()])


def test_what_front_ends_do_to_tags_is_wrong() -> None:
    assert "Tom?" not in skip_tags(TAGGED)
    assert '"32AN4R"' in quoted_only(TAGGED)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_prose_is_right_by_both_rules(size: int) -> None:
    text = shaped(TAGGED, size)
    assert text == (
        "The door stood open. “Tom? She listened. Are you there?” she called. A bell rang.\n\n"
        "“‘Here,’ he said.” Rain & fog."
    )
    assert text == render(parse(TAGGED), "plain")
    assert skip_tags(text) == text
    assert quoted_only(text) == ['"Tom? She listened. Are you there?"', '"‘Here,’ he said."']


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_script_names_who_speaks(size: int) -> None:
    text = shaped(TAGGED, size, "script")
    assert text == (
        "The door stood open. \nMara Voss: “Tom? She listened. Are you there?” she called. A bell rang.\n\n"
        "Tom: “‘Here,’ he said.” Rain & fog."
    )
    assert skip_tags(text) == text


def test_a_cut_or_unknown_speech_is_good_prose() -> None:
    assert shaped('Fog. <quote speaker="32AN4R">Who', 1) == "Fog. “Who”"
    assert shaped('<quote speaker="ZZZZZZ">Who?</quote>', 1, "script") == "“Who?”"
    assert shaped("a < b", 1) == "a < b"
    assert shaped("a < b <quo", 1) == "a < b "


@pytest.mark.parametrize("form", ["prose", "script"])
def test_wherever_a_text_is_cut_no_part_of_a_tag_is_left(form: Any) -> None:
    whole = shaped(TAGGED, 1, form).replace("&", "")
    for end in range(len(TAGGED)):
        text = shaped(TAGGED[:end], 5, form)
        assert "<" not in text
        assert not re.search("speaker|quote|32AN|K7Q2", text)
        certain = re.sub(r"&\w*", "", text).rstrip("”’ ")
        assert (
            whole.startswith(certain) or "“‘" in whole[: len(certain) + 2]
        )  # a mark may become an inner one


def test_every_paragraph_of_a_speech_is_one_by_itself() -> None:
    text = shaped('<quote speaker="32AN4R">First.\n\nSecond.\nThird.</quote> she said.', 3)
    assert text == "“First.”\n\n“Second.”\n“Third.” she said."
    assert quoted_only(text) == ['"First."', '"Second."', '"Third."']


def test_the_cast_is_found_in_text_and_messages() -> None:
    assert cast_of(PROMPT.render()) == CAST
    assert cast_of((Message("system", "Write."), Message("user", PROMPT.render()))) == CAST
    assert cast_of((Message("user", "<MaraDescription>\n- broken\n</MaraDescription>"),)) == ()
    assert cast_of([1, 2, 3]) == ()
    assert cast_of(StoryPrompt(()).render()) == ()


def test_the_plain_model_writes_what_the_tagged_one_means(client: Any) -> None:
    quotes = 0
    for seed in range(6):
        asked: dict[str, Any] = {
            "messages": CHAT,
            "temperature": 2.0,
            "seed": seed,
            "max_tokens": 150,
            "extra_body": {"structured_outputs": {"grammar": grammar(CAST)}},
        }
        tagged = client.chat.completions.create(model="tiny", **asked).choices[0].message.content
        plain = client.chat.completions.create(model="tiny-plain", **asked).choices[0].message.content
        assert plain == render(parse(tagged), "plain")
        quotes += tagged.count("<quote speaker=")
        assert "speaker=" not in plain
        assert skip_tags(plain) == plain
        chunks = client.chat.completions.create(model="tiny-plain", **asked, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == plain
    assert quotes > 1


def test_stop_strings_are_those_of_the_prose(client: Any) -> None:
    rules = {
        "structured_outputs": {"grammar": 'start: "Fog. <quote speaker=\\"32AN4R\\">Who?</quote> END rain"'}
    }
    asked: dict[str, Any] = {"prompt": "x", "max_tokens": 200, "extra_body": rules}
    texts = [
        client.completions.create(model="tiny-plain", **asked, stop=stop).choices[0].text
        for stop in ("“Who", "32AN4R", "END")
    ]
    assert texts == ["Fog. ", "Fog. “Who?” END rain", "Fog. “Who?” "]


def test_the_form_and_the_language_are_settings(generator: LocalGenerator) -> None:
    settings = ServeSettings(port=0, plain_form="script", language="fr")
    rules = {"structured_outputs": {"grammar": 'start: "<quote speaker=\\"32AN4R\\">Oui</quote>"'}}
    with running({"tiny": generator}, settings) as site, site.openai() as client:
        made = client.chat.completions.create(model="tiny-plain", messages=CHAT, extra_body=rules)
    assert made.choices[0].message.content == "Mara Voss: «\u00a0Oui\u00a0»"
