"""Texts and prompts for property tests: mostly markup, whole, damaged and cut off."""

from hypothesis import strategies as st

from spellbound.directives import Character, Close, Event, Open, StoryPrompt, Text
from spellbound.directives.nesting import Nesting

PIECES = [
    '<quote speaker="32AN4R">',
    "<quote speaker='7QK2MD' >",
    "<quote speaker=ZZZZZZ>",
    "<QUOTE>",
    "</quote>",
    '<quote speaker="a&lt;b" mood="x">',
    "<action>",
    "</action>",
    "<sound>",
    "</sound>",
    "<sound/>",
    "< / Action >",
    "<",
    ">",
    "&",
    "&lt;",
    "&amp;",
    "&#65;",
    "&#x",
    "&#0;",
    ";",
    "quote",
    "speaker",
    "=",
    '"',
    "'",
    "/",
    " ",
    "\n",
    "\r\n",
    "lt;",
    "<quote speaker=",
    "<act",
    "a < b",
    "<3",
    "e\u0301",
    "שלום",
    "مرحبا",
    "🔔",
    "\u0000",
    "\ud800",
    "\u017f",
    "</pastStory>",
    "<pastStory>",
    "<writingInstructions>",
    "</MaraDescription>",
    "<MaraDescription>",
    "- Name: x\n",
    "- Speaker ID: 32AN4R\n",
    "Write plain prose, without tags.",
    "x" * 199,
]

markup = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=3)), max_size=14).map("".join)
"""Any text, lone surrogates included."""


def _writable(text: str) -> str:
    return "".join(char for char in text if not "\ud800" <= char <= "\udfff")


writable = st.one_of(markup.map(_writable), st.text(alphabet=" \t\r\n-:&<a", max_size=6))
speaker_id = st.from_regex(r"[A-Z0-9]{6}", fullmatch=True)
character = st.builds(
    Character,
    name=writable,
    speaker_id=speaker_id,
    details=st.lists(
        st.tuples(st.one_of(writable, st.sampled_from(["Name", "Speaker ID"])), writable), max_size=3
    ).map(tuple),
)
prompt = st.builds(
    StoryPrompt,
    characters=st.lists(character, max_size=3, unique_by=lambda each: each.speaker_id).map(tuple),
    past_story=writable,
    instructions=st.lists(writable, max_size=3).map(tuple),
    tags=st.booleans(),
)


def _nested(events: list[Event]) -> list[Event]:
    nesting = Nesting()
    taken = [mended for event in events for mended in nesting.take(event)]
    return taken + nesting.finish()


speaker = st.one_of(
    st.none(), st.sampled_from(["32AN4R", "7QK2MD", "O'Brien", 'the "boss"', "&lt;", "x" * 200])
)
event: st.SearchStrategy[Event] = st.one_of(
    st.builds(Text, st.one_of(writable, st.sampled_from(["&", "lt;", "#65", ";", "\n", "\n\n", '"', "— "]))),
    st.builds(Open, st.just("quote"), speaker),
    st.builds(Open, st.sampled_from(["action", "sound"])),
    st.builds(Close, st.sampled_from(["quote", "action", "sound"])),
)
events = st.lists(event, max_size=10).map(_nested)
"""Events that nest as the stream parser's do, with texts of any cut."""
