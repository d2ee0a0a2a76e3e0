"""The same example with people nobody has heard of: names that can only be copied from the sheets.

The few hundred names of the bank come often enough to be learnt by heart, and a model that knows names need
not look.
"""

import re
from dataclasses import replace
from random import Random

from spellbound.data.checks import Check
from spellbound.data.simulator import bank
from spellbound.data.simulator.examples import Example

# Four ways in which languages build syllables, so that no single one is learnt: onsets, vowels, ends.
_SOUNDS = (
    (
        (*"bcdfghjklmnprstvwz", "br", "ch", "dr", "gr", "kl", "sh", "st", "th", "tr"),
        ("a", "e", "i", "o", "u", "ai", "ea", "ee", "io", "ou"),
        ("", "", "n", "r", "l", "s", "m", "th", "nd", "sk", "x"),
    ),
    ((*"kmnprtshwyz", "ky", "ry", "ts"), ("a", "i", "u", "e", "o"), ("", "", "", "n")),
    (
        (*"bdfglmnprstvj", "gn", "qu", "sc", "tr", "cr"),
        ("a", "e", "i", "o", "ia", "io", "ie"),
        ("", "", "l", "n", "r", "s", "ss"),
    ),
    (
        (*"bdghjklmnrstvzq", "kh", "dz", "vl", "zd", "kr", "mr", "sv"),
        ("a", "e", "i", "o", "u", "y", "aa", "uu"),
        ("", "k", "n", "r", "sh", "v", "m", "kt", "rg"),
    ),
)
_LETTERS = range(3, 11)


def invented_name(rng: Random) -> str:
    """Draw one name that no list has and that is no word of a story: one to four syllables, one capital."""
    onsets, vowels, ends = rng.choice(_SOUNDS)
    while True:
        syllables = rng.choices((1, 2, 3, 4), (3, 5, 2, 1))[0]
        name = "".join(
            rng.choice(part) for _ in range(syllables) for part in (onsets, vowels, ends)
        ).capitalize()
        if len(name) in _LETTERS and name.lower() not in bank.words():
            return name


def with_invented_names(example: Example, rng: Random) -> Example:
    """Return the example with another name for everybody: in sheets, story, instructions and checks."""
    prompt = example.prompt
    old = sorted({word for character in prompt.characters for word in character.name.split()})
    new = _names(old, rng)
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, old))})\b")

    def changed(text: str) -> str:
        return pattern.sub(lambda found: new[found[0]], text)

    cast = tuple(
        replace(
            person,
            name=changed(person.name),
            details=tuple((key, changed(value)) for key, value in person.details),
        )
        for person in prompt.characters
    )
    return replace(
        example,
        prompt=replace(
            prompt,
            characters=cast,
            past_story=changed(prompt.past_story),
            instructions=tuple(map(changed, prompt.instructions)),
        ),
        completion=changed(example.completion),
        checks=tuple(Check(check.kind, tuple(map(changed, check.arguments))) for check in example.checks),
    )


def _names(old: list[str], rng: Random) -> dict[str, str]:
    """One new name for each old one; none is the beginning of another, so that a check cannot mix them up."""
    new: dict[str, str] = {}
    for word in old:
        name = invented_name(rng)
        while any(name.startswith(other) or other.startswith(name) for other in new.values()):
            name = invented_name(rng)
        new[word] = name
    return new
