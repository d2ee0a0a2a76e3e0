"""The simulation: in every scene the facts say what can happen, one thing is drawn, and changes the facts."""

from dataclasses import dataclass
from itertools import permutations
from random import Random

from spellbound.data.simulator import bank
from spellbound.data.simulator.tell import TIMES, Teller
from spellbound.data.simulator.world import Place, World, make_world
from spellbound.directives import Character

_JOINING = frozenset({"asks for help, yes", "asks for help, no"})
_MENDING = frozenset({"comes after all", "comes back", "make up"})
_REPEATABLE = _JOINING | {"meets somebody"}
_WEIGHTS = {
    "asks for help, yes": 8.0,
    "asks for help, no": 2.5,
    "meets somebody": 9.0,
    "comes after all": 6.0,
    "comes back": 6.0,
    "make up": 6.0,
    "quarrel": 3.0,
    "walks off": 4.0,
    "loses the tool": 2.0,
    "finds a tool": 2.0,
    "uses the rope": 8.0,
    "uses the light": 8.0,
    "uses the whistle": 8.0,
    "uses the blanket": 8.0,
    "uses the map": 8.0,
}


@dataclass(frozen=True, slots=True)
class Happening:
    """One event of a passage: its name, how an instruction may put it, words that telling it must use."""

    name: str
    people: tuple[str, ...]
    sayings: tuple[str, ...]
    words: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """One written stretch of a story, in tagged markup, with what is known about it."""

    text: str
    place: Place
    weather: str
    time: str
    present: tuple[str, ...]
    happenings: tuple[Happening, ...]
    moods: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Story:
    """A simulated story: its cast, its passages in order, and the facts behind them."""

    seed: int
    characters: tuple[Character, ...]
    first_names: tuple[str, ...]
    pronouns: tuple[str, ...]
    details: tuple[Passage, ...]
    thing: str

    @property
    def passages(self) -> tuple[str, ...]:
        """The tagged text of each passage."""
        return tuple(passage.text for passage in self.details)


def simulate(seed: int) -> Story:
    """Simulate and tell the story of a seed; the same seed gives the same story."""
    rng = Random(seed)
    world = make_world(rng)
    stage = _Stage(world, Teller(world, rng), rng)
    details = tuple(stage.passages())
    people = world.people.values()
    return Story(
        seed=seed,
        characters=tuple(person.sheet for person in people),
        first_names=tuple(person.first for person in people),
        pronouns=tuple(person.pronoun for person in people),
        details=details,
        thing=world.thing[1],
    )


class _Stage:
    """Runs the scenes of one story."""

    def __init__(self, world: World, teller: Teller, rng: Random) -> None:
        self.world, self.teller, self.rng = world, teller, rng
        self._done: set[str] = set()
        self._paragraphs: list[str] = []
        self._happenings: list[Happening] = []
        world.facts |= {("here", "a"), ("joined", "a")}
        for letter in list(world.people)[1:]:
            near = letter == "b" and rng.random() < 0.75
            world.facts.add(("here" if near else "new", letter))

    def passages(self) -> list[Passage]:
        """Play the opening, some scenes in the middle, the goal and the ending."""
        world, home = self.world, self.world.place
        scenes = [self._scene(["opening", "want"], extra=self.rng.choice((0, 1, 1)))]
        middle = self.rng.choices((1, 2, 3, 4), (1, 3, 4, 2))[0]
        clue_at = self.rng.randrange(middle)
        for index in range(middle):
            last = index == middle - 1
            self._travel(self._somewhere(), "journey", stay=0.12)
            stages = ["clue"] if (index == clue_at and self.rng.random() < 0.8) or last else []
            scenes.append(self._scene(stages, extra=self.rng.choice((1, 2, 2)) - len(stages) // 2))
        self._travel(world.goal_place, "goal_journey")
        scenes.append(self._scene(["climax"], extra=self.rng.choice((0, 0, 1)), extra_first=True))
        self._travel(home, "home")
        scenes.append(self._scene(["ending"], extra=0))
        return [scene for scene in scenes if scene.happenings]

    def _somewhere(self) -> Place:
        world = self.world
        return self.rng.choice(
            [place for place in world.places if place not in (world.place, world.goal_place)]
        )

    def _travel(self, place: Place, phrase: str, stay: float = 0.0) -> None:
        world, roles = self.world, {"a": "a"}
        if self.rng.random() < stay:
            self._paragraphs += self.teller.paragraphs(self.teller.pick(bank.load("phrases")["stay"]), roles)
            return
        for letter in world.here():
            if ("joined", letter) not in world.facts:
                template = self.teller.pick(bank.load("phrases")["behind"])
                self._paragraphs += self.teller.paragraphs(template, {"a": "a", "b": letter})
                world.change("-here b", {"b": letter})
                world.facts.add(("stayed", letter))
        world.place = place
        world.time = min(world.time + self.rng.choice((0, 1)), len(TIMES) - 1)
        world.facts |= {("moved",), ("moved_since", "a")}
        template = self.teller.pick(bank.load("phrases")[phrase])
        self._paragraphs += self.teller.paragraphs(template, roles)

    def _scene(self, stages: list[str], extra: int, extra_first: bool = False) -> Passage:
        before = dict(self.world.moods)
        order = [*stages, *["middle"] * extra]
        if "want" not in stages and self.rng.random() < (0.9 if "climax" in stages else 0.5):
            self._happen("middle", only=_MENDING)
        for stage in reversed(order) if extra_first else order:
            self._happen(stage)
        self._ask_around()
        filler = "after" if "ending" in stages else "middle"
        while _length(self._paragraphs) < 60 and self._happen(filler):
            pass
        changed = {who: mood for who, mood in self.world.moods.items() if before.get(who) != mood}
        self._close(changed, late="climax" in stages or "ending" in stages)
        passage = Passage(
            text="\n\n".join(self._paragraphs),
            place=self.world.place,
            weather=self.world.weather,
            time=self.teller.time,
            present=tuple(self.world.here()),
            happenings=tuple(self._happenings),
            moods=tuple(changed.items()),
        )
        self._paragraphs, self._happenings = [], []
        return passage

    def _ask_around(self) -> None:
        """Whoever is here and not yet of the party is nearly always asked to come."""
        world = self.world
        strangers = [who for who in world.here() if ("joined", who) not in world.facts]
        if strangers and ("wants", "a") in world.facts and self.rng.random() < 0.85:
            self._happen("middle", only=_JOINING)

    def _happen(self, stage: str, only: frozenset[str] = frozenset()) -> bool:
        world = self.world
        self._look_round()
        possible = [
            (event, roles, self._weight(event.name))
            for event in bank.events(stage)
            if event.name not in self._done and (not only or event.name in only)
            for roles in self._bindings(event)
        ]
        if not possible:
            return False
        event, roles, _ = self.rng.choices(possible, [weight for *_, weight in possible])[0]
        self._done.add(event.name)
        felt = self.teller.felt = {}
        for effect in event.then:
            if effect.startswith("mood"):
                world.change(effect, roles)
                felt[roles[effect.split()[1]]] = effect.split()[2]
        if event.enters:
            world.facts.add(("here", roles[event.enters]))
        if self._happenings and stage in ("middle", "clue") and self.rng.random() < 0.35:
            key = "between_alone" if ("alone",) in world.facts else "between"
            self._paragraphs += self.teller.paragraphs(
                self.teller.pick(bank.load("phrases")[key]), {"a": "a"}
            )
        self._paragraphs += self.teller.paragraphs(self.teller.pick(event.tell), roles)
        self._happenings.append(self._happening(event, roles))
        for effect in event.then:
            world.change(effect, roles)
        if event.name in _REPEATABLE:
            self._done.discard(event.name)
        return True

    def _look_round(self) -> None:
        """Set the facts that depend on where the party is."""
        world = self.world
        here = world.here()
        true = {
            ("alone",): len(here) == 1,
            ("solo",): not any(("joined", who) in world.facts for who in here if who != "a"),
            ("indoors",): world.place.kind == "indoor",
            ("built",): world.place.kind == "built",
            ("known_here",): world.place is world.goal_place,
        }
        world.facts -= true.keys()
        world.facts |= {fact for fact, holds in true.items() if holds}

    def _weight(self, name: str) -> float:
        return _WEIGHTS.get(name, 1.0)

    def _bindings(self, event: bank.Event) -> list[dict[str, str]]:
        here = self.world.here()
        found = []
        pool = list(self.world.people) if event.enters else here
        for people in permutations(pool, len(event.roles)):
            roles = dict(zip(event.roles, people, strict=True))
            present = all((roles[role] in here) != (role == event.enters) for role in event.roles)
            if present and all(self._true(need, roles) for need in event.needs):
                found.append(roles)
        return found

    def _true(self, need: str, roles: dict[str, str]) -> bool:
        return roles["a"] == "a" if need == "hero a" else self.world.holds(need, roles)

    def _happening(self, event: bank.Event, roles: dict[str, str]) -> Happening:
        teller = self.teller
        groups = []
        for group in event.words:
            if group == ("{q.climax_words}",):
                groups += [tuple(words) for words in self.world.quest["climax_words"]]
            else:
                groups.append(group)
        known = teller.mark()
        words = tuple(tuple(teller.phrase(word, roles) for word in group) for group in groups)
        sayings = []
        for fact in event.fact:
            options = self.world.quest[fact[3:-1]] if fact.startswith("{q.") else [fact]
            sayings += [
                teller.phrase(option, roles)
                for option in ([options] if isinstance(options, str) else options)
            ]
        teller.reset(known)
        return Happening(event.name, tuple(roles.values()), tuple(sayings), words)

    def _close(self, changed: dict[str, str], *, late: bool) -> None:
        phrases, rng = bank.load("phrases"), self.rng
        told = "\n".join(self._paragraphs).lower()
        here = [
            who for who, mood in changed.items() if who in self.world.here() and not mood_shows(mood, told)
        ]
        if here and rng.random() < 0.5:
            who = rng.choice(here)
            self._paragraphs += self.teller.paragraphs(f"{{mood a {changed[who]}}}", {"a": who})
        kinds = ("", "close_sound", "close_action", "hook_end" if late else "hook")
        kind = rng.choices(kinds, (5, 2, 0, 1.5) if late else (4, 2, 1.5, 2.5))[0]
        if kind:
            self._paragraphs += self.teller.paragraphs(self.teller.pick(phrases[kind]), {"a": "a"})


def mood_shows(mood: str, text: str) -> bool:
    """Whether the text uses a word of the mood."""
    return any(word in text for word in bank.load("moods")[mood]["words"])


def _length(paragraphs: list[str]) -> int:
    return sum(len(paragraph.split()) for paragraph in paragraphs)
