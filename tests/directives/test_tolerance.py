"""What the stream parser makes of text that a model should not have written: one row each."""

import pytest

from spellbound.directives import StreamParser, render
from spellbound.directives.events import merge_text

MARA, JOSS = "32AN4R", "7QK2MD"
Q = f'<quote speaker="{MARA}">'

ROWS: list[tuple[str, str, str, list[str]]] = [
    ("upper case", f'<QUOTE SPEAKER="{MARA}">Hi</QUOTE>', f"{Q}Hi</quote>", ["spelling", "spelling"]),
    ("spaces", f'< quote speaker = "{MARA}" >Hi</ quote >', f"{Q}Hi</quote>", ["spelling", "spelling"]),
    ("single quotes", f"<quote speaker='{MARA}'>Hi</quote>", f"{Q}Hi</quote>", ["spelling"]),
    ("no quotes", f"<quote speaker={MARA}>Hi</quote>", f"{Q}Hi</quote>", ["spelling"]),
    ("self-closing", "a<sound/>b", "a<sound></sound>b", ["self-closing"]),
    ("unknown attribute", f'<quote speaker="{MARA}" mood="dry">Hi</quote>', f"{Q}Hi</quote>", ["attribute"]),
    ("unknown tag", "<whisper>Hi</whisper>", "&lt;whisper&gt;Hi&lt;/whisper&gt;", []),
    ("missing speaker", "<quote>Hi</quote>", "<quote>Hi</quote>", ["speaker-missing"]),
    (
        "speaker not in the cast",
        '<quote speaker="ZZZZZZ">Hi</quote>',
        '<quote speaker="ZZZZZZ">Hi</quote>',
        ["speaker-outside-cast"],
    ),
    (
        "quote in quote",
        f'{Q}One <quote speaker="{JOSS}">two</quote>',
        f'{Q}One </quote><quote speaker="{JOSS}">two</quote>',
        ["nested"],
    ),
    ("action inside a quote", f"{Q}a<action>b</action>c</quote>", f"{Q}a<action>b</action>c</quote>", []),
    ("sound inside a quote", f"{Q}a<sound>b</sound>c</quote>", f"{Q}a<sound>b</sound>c</quote>", []),
    ("stray <", "one < two <", "one &lt; two &lt;", []),
    ("a < b", "a < b", "a &lt; b", []),
    ("<3", "I <3 you", "I &lt;3 you", []),
    ("&lt;", "a &lt; b &lt;action>", "a &lt; b &lt;action&gt;", []),
    ("unclosed at the end", f"{Q}a<action>b", f"{Q}a<action>b</action></quote>", ["unclosed", "unclosed"]),
    ("close without open", "a</action>b", "ab", ["unopened"]),
    (
        "crossed",
        f"{Q}a<action>b</quote>c</action>",
        f"{Q}a<action>b</action></quote>c",
        ["unclosed", "unopened"],
    ),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000], ids="chunks of {}".format)
@pytest.mark.parametrize(("text", "mended", "codes"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_tolerance(text: str, mended: str, codes: list[str], size: int) -> None:
    parser = StreamParser([MARA, JOSS])
    events = [event for at in range(0, len(text), size) for event in parser.feed(text[at : at + size])]
    events += parser.close()
    assert render(merge_text(events)) == mended
    assert [repair.code for repair in parser.repairs] == codes
