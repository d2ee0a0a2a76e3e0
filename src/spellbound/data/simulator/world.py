"""The small world: people, places, and what is true in it, as facts that events need and change.

A fact is a tuple of words such as ("at", "b", "here"); people are named by one letter, `a` being the hero.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from spellbound.data.simulator import bank
from spellbound.directives import Character, new_speaker_id

PRONOUNS = {
    "she": ("she", "her", "her", "herself", "was", "had"),
    "he": ("he", "him", "his", "himself", "was", "had"),
    "they": ("they", "them", "their", "themself", "were", "had"),
}
_PRONOUN_KEYS = ("he", "him", "his", "himself", "was", "had")


@dataclass(frozen=True, slots=True)
class Person:
    """One of the cast, with everything the telling may say about them."""

    name: str
    first: str
    pronoun: str
    voice: str
    words: dict[str, str]
    sheet: Character


@dataclass(frozen=True, slots=True)
class Place:
    """Where something can happen; `kind` is "indoor", "built" (outdoors, made by people) or "wild"."""

    name: str
    at: str
    detail: tuple[str, ...]
    sounds: tuple[tuple[str, str, str], ...]
    kind: str


@dataclass(slots=True)
class World:
    """What is true at one moment of a story; `facts` changes as events happen."""

    people: dict[str, Person]
    places: tuple[Place, ...]
    ways: tuple[str, ...]
    goal_place: Place
    quest: dict[str, Any]
    thing: tuple[str, str]
    tool: tuple[str, str]
    helper: str
    weather: str
    time: int
    place: Place
    facts: set[tuple[str, ...]] = field(default_factory=set)
    moods: dict[str, str] = field(default_factory=dict)

    def holds(self, need: str, roles: dict[str, str]) -> bool:
        """Whether a need such as "not joined b" is true with people in the given roles."""
        words = [roles.get(word, word) for word in need.split()]
        return (tuple(words[1:]) not in self.facts) if words[0] == "not" else tuple(words) in self.facts

    def change(self, effect: str, roles: dict[str, str]) -> None:
        """Apply an effect: "+fact", "-fact" or "mood role word" (felt while it happens) or
        "later role word" (felt afterwards)."""
        words = [roles.get(word, word) for word in effect.lstrip("+-").split()]
        if words[0] in ("mood", "later"):
            self.moods[words[1]] = words[2]
        elif effect.startswith("-"):
            self.facts.discard(tuple(words))
        else:
            self.facts.add(tuple(words))

    def here(self) -> list[str]:
        """Return the letters of the people present, in cast order."""
        return [letter for letter in self.people if ("here", letter) in self.facts]


def make_world(rng: Random) -> World:
    """Draw a setting, a quest and a cast."""
    setting = rng.choice(bank.load("places")["setting"])
    places = tuple(_place(row) for row in rng.sample(setting["place"], len(setting["place"])))
    home = rng.choice([place for place in places if place.name in setting["homes"]])
    quest = rng.choice(bank.load("quests")["quest"])
    objects = bank.load("objects")
    thing = rng.choice(objects[quest["things"]])
    tool = rng.choice([tool for tool in objects["tools"] if tool.split("|")[1] != thing.split("|")[1]])
    world = World(
        people=_cast(rng),
        places=places,
        ways=tuple(setting["ways"]),
        goal_place=rng.choice([place for place in places if place is not home]),
        quest=quest,
        thing=_noun(thing, rng, objects["adjectives"]),
        tool=_noun(tool, rng, objects["adjectives"]),
        helper=rng.choice(quest.get("helpers", ["the old ferryman"])),
        weather=rng.choice(setting["weather"]),
        time=rng.randrange(3),
        place=home,
    )
    world.facts.add(("tool", world.tool[1]))
    return world


def _noun(entry: str, rng: Random, adjectives: list[str]) -> tuple[str, str]:
    """Split "brass |lantern" entries; an empty description draws an adjective."""
    description, noun = entry.split("|")
    return f"a {description or rng.choice(adjectives)} {noun}", noun


def _place(row: dict[str, Any]) -> Place:
    sounds = []
    for sound in row["sound"]:
        noun, call, verb = sound.split("|")
        sounds.append((noun, call, verb))
    return Place(row["name"], row["at"], tuple(row["detail"]), tuple(sounds), row.get("kind", "wild"))


def _cast(rng: Random) -> dict[str, Person]:
    size = rng.choices((1, 2, 3, 4), (8, 44, 34, 14))[0]
    people_bank, names = bank.load("people"), bank.load("names")
    relations = rng.sample(people_bank["relation"], size)
    voices = rng.sample(sorted(bank.load("voices")), size)
    taken: set[str] = set()
    cast: dict[str, Person] = {}
    if size > 1:
        relations[0] = {**relations[0], "age": [8, 19]}
    for letter, relation, voice in zip("abcd", relations, voices, strict=False):
        cast[letter] = _person(rng, names, people_bank, relation, voice, taken)
    return cast


def _first_name(rng: Random, names: dict[str, str], pronoun: str, taken: set[str]) -> str:
    while True:
        first = rng.choice(names[pronoun].split())
        if not any(first.startswith(other) or other.startswith(first) for other in taken):
            taken.add(first)
            return first


def _person(
    rng: Random,
    names: dict[str, str],
    people_bank: dict[str, Any],
    relation: dict[str, Any],
    voice: str,
    taken: set[str],
) -> Person:
    pronoun = rng.choices(("she", "he", "they"), (47, 45, 8))[0]
    first = _first_name(rng, names, pronoun, taken)
    name = f"{first} {rng.choice(names['surnames'].split())}" if rng.random() < 0.4 else first
    age = rng.randint(*relation["age"])
    words = dict(zip(_PRONOUN_KEYS, PRONOUNS[pronoun], strict=True))
    words["rel"] = relation[pronoun]
    words["age"] = str(age)
    words["work"] = rng.choice(people_bank["work_child" if age < 16 else "work"])
    for key in ("want", "like", "fear", "looks"):
        words[key] = rng.choice(people_bank[key])
    return Person(name, first, pronoun, voice, words, _sheet(rng, name, voice, words, people_bank, taken))


def _sheet(
    rng: Random, name: str, voice: str, words: dict[str, str], people_bank: dict[str, Any], taken: set[str]
) -> Character:
    bank_voice = bank.load("voices")[voice]
    traits = rng.sample(bank_voice["traits"], rng.choice((1, 2, 2, 3)))
    if rng.random() < 0.5:
        traits.append(rng.choice(people_bank["trait"]))
    details = [("Personality", ", ".join(traits))]
    optional = {
        "Age": words["age"],
        "Pronouns": {"she": "she/her", "he": "he/him", "they": "they/them"}[words["he"]],
        "Work": words["work"],
        "Wants": f"to {words['want']}",
        "Likes": words["like"],
        "Fears": words["fear"],
        "Looks": words["looks"],
        "Voice": rng.choice(bank_voice["sound"]),
    }
    shares = {
        "Age": 0.35,
        "Pronouns": 0.4,
        "Work": 0.25,
        "Wants": 0.35,
        "Likes": 0.4,
        "Fears": 0.3,
        "Looks": 0.2,
    }
    details += [(key, value) for key, value in optional.items() if rng.random() < shares.get(key, 0.25)]
    speaker_id = new_speaker_id(taken, rng)
    taken.add(speaker_id)
    return Character(name, speaker_id, tuple(details))
