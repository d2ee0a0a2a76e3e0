"""From what happens to prose: templates of an event become tagged paragraphs."""

import re
from random import Random
from typing import Any

from spellbound.data.simulator import bank
from spellbound.data.simulator.expand import expand, tidy
from spellbound.data.simulator.speech import speak
from spellbound.data.simulator.world import Person, Place, World

TIMES = ("morning", "afternoon", "evening", "night")
_SPEECH = re.compile(r"([abcd])([!~]?): (.*)")
_NEXT = re.compile(r"(?<=[.!?])((?:</\w+>)?\s+)")
_START = re.compile(r"((?:<\w+>)?)(\w+)(?= )")
_QUEST = re.compile(r"\{q\.(\w+)\}")


class Teller:
    """Tells one story; remembers which phrases it has used, so that they do not come back soon."""

    def __init__(self, world: World, rng: Random) -> None:
        """Tell about `world`, drawing every choice from `rng`."""
        self.world = world
        self.rng = rng
        self._used: set[str] = set()
        self._introduced: set[str] = set()
        self._sounds: list[str] = []
        self.felt: dict[str, str] = {}
        self.asked_by = ""
        self._linked: dict[str, str] = {}

    def pick(self, options: list[str] | tuple[str, ...]) -> str:
        """Draw an option not used before in this story, or any if all were."""
        fresh = [option for option in options if option not in self._used] or list(options)
        chosen = self.rng.choice(fresh)
        self._used.add(chosen)
        return chosen

    def paragraphs(self, template: str, roles: dict[str, str]) -> list[str]:
        """Tell a template with people in the given roles; one paragraph for each of its lines."""
        self._linked = {}
        return [self._line(line.strip(), roles) for line in self.inline(template).split("\n") if line.strip()]

    def inline(self, template: str) -> str:
        """Put the quest's own words in the place of `{q.…}`."""
        while match := _QUEST.search(template):
            value = self.world.quest[match[1]]
            chosen = value if isinstance(value, str) else self.pick(value)
            template = template[: match.start()] + chosen.strip() + template[match.end() :]
        return template

    def phrase(self, template: str, roles: dict[str, str]) -> str:
        """Expand a template that stands inside a sentence or an instruction."""
        return expand(self.inline(template), self.rng, lambda key: self._resolve(key, roles))

    def mark(self) -> tuple[Random, set[str], list[str]]:
        """Return what `reset` needs to forget everything said from now on but the random state."""
        return self.rng, set(self._introduced), list(self._sounds)

    def reset(self, mark: tuple[Random, set[str], list[str]]) -> None:
        """Forget who was named since `mark`."""
        _, self._introduced, self._sounds = mark

    def _line(self, line: str, roles: dict[str, str]) -> str:
        match = _SPEECH.fullmatch(line)
        if match is None:
            return self._with_pronouns(tidy(self.phrase(line, roles)))
        said, tag, after = match[3].partition(" <action>")
        spoken = speak(self, roles[match[1]], said, match[2], roles)
        return tidy(f"{spoken}{self.phrase(tag + after, roles)}")

    def _with_pronouns(self, paragraph: str) -> str:
        """Where two sentences in a row begin with one name and name no other, the second gets a pronoun."""
        people = {person.first: person.words for person in self.world.people.values()}
        pieces = _NEXT.split(paragraph)
        before: list[str] = []
        for at in range(0, len(pieces), 2):
            named = [first for first in people if first in pieces[at]]
            start = _START.match(pieces[at])
            alone = start is not None and named == [start[2]]
            if alone and start and named == before and self.rng.random() < 0.8:
                words = people[start[2]]
                rest = re.sub("^ was ", f" {words['was']} ", pieces[at][start.end() :])
                pieces[at] = f"{start[1]}{words['he'].capitalize()}{rest}"
                named = []
            before = named if alone else []
        return "".join(pieces)

    def _resolve(self, key: str, roles: dict[str, str]) -> str:
        head, _, rest = key.partition(".")
        if key.startswith("#"):
            rule, _, role = key[1:].partition(" ")
            return self.phrase(self.pick(bank.load("phrases")[rule]), turned(roles, role))
        if key.startswith("="):
            return self._linked.setdefault(key, str(self.rng.random()))
        if key.startswith("mood "):
            _, role, mood = key.split(" ")
            return self.phrase(self.pick(bank.load("moods")[mood]["tell"]), turned(roles, role))
        if head in roles:
            return self._person(self.world.people[roles[head]], roles[head], rest)
        return self._thing(head, rest, roles)

    def _person(self, person: Person, letter: str, rest: str) -> str:
        if not rest:
            known = letter in self._introduced
            self._introduced.add(letter)
            return person.first if known else person.name
        value = person.words[rest.lower()]
        return value.capitalize() if rest[0].isupper() else value

    def _thing(self, head: str, rest: str, roles: dict[str, str]) -> str:
        world = self.world
        if head in ("p", "h"):
            return self._place(world.place if head == "p" else world.goal_place, rest)
        if head in ("o", "t"):
            article, noun = world.thing if head == "o" else world.tool
            return {"a": article, "A": article, "noun": noun}.get(rest, f"the {noun}")
        if head in ("when", "weather"):
            key = world.weather if head == "weather" else self.time
            table = "indoor_weather" if head == "weather" and world.place.kind == "indoor" else head
            return self.phrase(self.pick(bank.load("phrases")[table][key]), roles)
        simple = {"n": world.helper, "time": self.time, "sound": "", **self._party()}
        if head == "w":
            return self.rng.choice(world.ways)
        return self.sound() if head == "sound" else simple[head]

    @property
    def time(self) -> str:
        """The time of day, in one word."""
        return TIMES[min(self.world.time, len(TIMES) - 1)]

    def _party(self) -> dict[str, str]:
        world = self.world
        letters = [letter for letter in world.here() if ("joined", letter) in world.facts]
        names = [world.people[letter].first for letter in letters]
        hero = world.people["a"].words
        many = len(names) > 1
        joined = names[0] if not many else f"{', '.join(names[:-1])} and {names[-1]}"
        return {
            "party": joined,
            "they": "they" if many else hero["he"],
            "them": "them" if many else hero["him"],
        }

    def _place(self, place: Place, rest: str) -> str:
        if rest == "detail":
            return self.phrase(self.pick(place.detail), {})
        if rest == "sound":
            return self._sounds[-1] if self._sounds else place.sounds[0][0]
        was = "were" if place.name.endswith("s") else "was"
        return {
            "at": place.at,
            "At": place.at.capitalize(),
            "was": was,
            "bare": place.name.removeprefix("the "),
        }.get(rest, place.name)

    def sound(self) -> str:
        """Return one sentence that a sound of this place makes; the tag is the template's."""
        sounds = {sound[0]: sound for sound in self.world.place.sounds}
        noun, call, verb = sounds[self.pick(list(sounds))]
        self._sounds.append(noun)
        words = {"noun": noun, "c": call, "C": call.capitalize(), "verb": verb}
        return expand(self.rng.choice(bank.load("phrases")["sound"]), self.rng, words.__getitem__)

    def voice_line(self, act: str, letter: str, roles: dict[str, str]) -> str:
        """Return a line of the given act, in the voice of the speaker or plainly."""
        voice: dict[str, Any] = bank.load("voices")[self.world.people[letter].voice]
        own = act in voice and self.rng.random() < 0.7
        return self.phrase(self.pick(voice[act] if own else bank.load("acts")[act]), roles)


def turned(roles: dict[str, str], role: str) -> dict[str, str]:
    """Return the roles as seen by whoever has `role`: that person is now `a`."""
    if not role or role == "a" or role not in roles:
        return roles
    return {**roles, "a": roles[role], role: roles["a"]}
