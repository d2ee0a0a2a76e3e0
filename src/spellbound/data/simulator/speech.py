"""Lines of dialogue: the words in the speaker's voice, the tag round them, and who is said to say them."""

import re
from typing import TYPE_CHECKING

from spellbound.data.simulator import bank

if TYPE_CHECKING:
    from spellbound.data.simulator.tell import Teller

_ACT = re.compile(r"\{~(\w+)\}")
_LAYOUTS = ("after", "bare", "before", "gesture first", "gesture last", "split")
_WEIGHTS = (40, 20, 8, 14, 10, 8)
_CLOSED = frozenset({"agree", "greet", "worry", "dream"})
_ASKING = ("asked", "asked", "asked", "wanted to know")
_LOUD = ("cried", "shouted", "called")
_QUIET = ("whispered", "murmured", "said quietly", "breathed")


def speak(teller: "Teller", letter: str, template: str, manner: str, roles: dict[str, str]) -> str:
    """Return a paragraph in which somebody says the template; manner is "", "!" (loud) or "~" (quiet)."""
    other = next((role for role, who in roles.items() if who == letter), "a")
    own = roles if other == "a" else {**roles, "a": letter, other: roles["a"]}
    answering = teller.asked_by not in ("", letter)
    text = _words(teller, letter, template, roles, own)
    person = teller.world.people[letter]
    teller.asked_by = letter if text.endswith("?") else ""
    layout = teller.rng.choices(_LAYOUTS, _WEIGHTS)[0]
    sentences = re.findall(r".+?[.!?]+(?= [A-Z]|$)", text)
    if layout == "split" and (len(sentences) < 2 or len(sentences[0]) < 4):
        layout = "after"
    if layout.startswith("gesture"):
        return _with_gesture(teller, letter, text, layout, own)
    if layout == "bare":
        return _quote(person.sheet.speaker_id, text)
    tag = _tag(teller, letter, sentences[0] if layout == "split" else text, manner, own, layout, answering)
    if layout == "before":
        return f"{tag}, {_quote(person.sheet.speaker_id, text)}"
    if layout == "split":
        rest = text[len(sentences[0]) :].strip()
        first = _quote(person.sheet.speaker_id, _comma(sentences[0]))
        return f"{first} {tag}. {_quote(person.sheet.speaker_id, rest)}"
    return f"{_quote(person.sheet.speaker_id, _comma(text))} {tag}."


def _voice(teller: "Teller", letter: str) -> dict[str, list[str]]:
    voice: dict[str, list[str]] = bank.load("voices")[teller.world.people[letter].voice]
    return voice


def _words(teller: "Teller", letter: str, template: str, roles: dict[str, str], own: dict[str, str]) -> str:
    """Expand the template; now and then the voice adds words of its own before or after it."""
    acts = _ACT.findall(template)
    while match := _ACT.search(template):
        line = teller.voice_line(match[1], letter, own)
        template = template[: match.start()] + line + template[match.end() :]
    text = re.sub(
        r"(^|(?<!\.\.)[.!?] )([a-z])",
        lambda found: found[1] + found[2].upper(),
        teller.phrase(template, roles).strip(),
    )
    draw = teller.rng.random()
    answering = teller.asked_by not in ("", letter)
    if not acts and not answering and draw < 0.12:
        return f"{teller.phrase(teller.pick(_voice(teller, letter)['open']), own)} {text}"
    if acts and acts[-1] in _CLOSED and draw > 0.85:
        return f"{text} {teller.phrase(teller.pick(_voice(teller, letter)['close']), own)}"
    return text


def _quote(speaker_id: str, text: str) -> str:
    return f'<quote speaker="{speaker_id}">{text}</quote>'


def _comma(text: str) -> str:
    return f"{text[:-1]}," if text.endswith(".") and not text.endswith("...") else text


def _with_gesture(teller: "Teller", letter: str, text: str, layout: str, own: dict[str, str]) -> str:
    world, rng = teller.world, teller.rng
    mood = teller.felt.get(letter)
    if mood and rng.random() < 0.35:
        options = bank.load("moods")[mood]["do"]
    else:
        own_ways = rng.random() < 0.6
        options = _voice(teller, letter)["gestures"] if own_ways else bank.load("phrases")["gesture"]
    options = [option for option in options if "b" in own or "{b" not in option]
    action = f"<action>{teller.phrase(teller.pick(options), own)}</action>"
    quote = _quote(world.people[letter].sheet.speaker_id, text)
    return f"{action} {quote}" if layout == "gesture first" else f"{quote} {action}"


def _tag(
    teller: "Teller", letter: str, text: str, manner: str, own: dict[str, str], layout: str, answering: bool
) -> str:
    rng, person = teller.rng, teller.world.people[letter]
    verb = _verb(teller, letter, text, manner)
    if answering and verb == "said" and rng.random() < 0.5:
        verb = rng.choice(("answered", "replied"))
    teller.phrase("{a}", own)
    mood = "" if manner else teller.felt.get(letter)
    adverb = ""
    if mood and " " not in verb and rng.random() < 0.22:
        adverb = " " + teller.phrase(rng.choice(bank.load("moods")[mood]["adverbs"]), own)
    if " " in verb or layout == "before" or rng.random() < 0.3:
        return f"{person.first} {verb}{adverb}"
    return f"{verb} {person.first}{adverb}"


def _verb(teller: "Teller", letter: str, text: str, manner: str) -> str:
    rng = teller.rng
    if manner:
        return rng.choice(_LOUD if manner == "!" else _QUIET)
    if text.endswith("?"):
        return rng.choice(_ASKING)
    verbs = bank.load("voices")[teller.world.people[letter].voice]["verbs"]
    return str(rng.choice(verbs)) if rng.random() < 0.5 else "said"
