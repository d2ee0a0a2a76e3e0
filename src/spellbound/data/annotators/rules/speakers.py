"""Who speaks each turn: the best way through all evidence, where each turn knows the two before it.

A turn's candidates are those named, speaking or acting near by. The weights were set on half of the books of
LitBank (`python -m benchmarks quotes`).
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import log1p

from spellbound.data.annotators.rules.people import Figure, People
from spellbound.data.annotators.rules.turns import Turn

MOST = 7
"""Candidates of one turn."""
NAMED, DESCRIBED, ACTING, LED = 14.0, 8.0, 3.0, 3.0
GENDER, WRONG_GENDER, KIN = 4.5, -9.0, 0.5
CALLED, MENTIONED, ANSWERS = -4.5, -3.5, 2.5
AGAIN, TAKES_TURN, LINKED = -4.0, 3.0, 12.0
STRANGER = -0.5
"""For somebody whom no name or description near by means."""
UNKNOWN, NOBODY = -1, -2
CROWD = 80
"""Names near by that are looked at."""
NEAR = 2.0
"""For a name in the paragraph before; less for one further away."""


ACTOR, ASKED = 1.9, 0.15
SPOKEN_OF = -1.5
"""For a figure that the narration never names."""
OUTSIDER = 4.0
MISSING = -3.0
"""The same where a cast is given."""
MARRIED = 1.5
FAMILIAR = 0.8
"""For the logarithm of how often the narration names a figure, where no cast is given."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A speaker, and by how much the best way without this speaker is worse."""

    figure: int | None
    margin: float = 0.0


@dataclass(frozen=True, slots=True)
class Places:
    """(paragraph, figure) of all names in narration, in quotes, and at sentences' beginnings, in order."""

    told: list[tuple[int, int]]
    asked: list[tuple[int, int]]
    acting: list[tuple[int, int]]


class Attribution:
    """Finds the speakers of the turns of one text."""

    def __init__(self, people: People, turns: list[Turn], places: Places) -> None:
        """Take the turns of a text, and where the names stand round them."""
        self.people = people
        self.turns = turns
        self.places = places
        self.told = Counter(figure for _, figure in places.told)
        told = self.told.keys() | {turn.known for turn in turns}
        self.spoken_of = {figure for _, figure in places.asked if figure not in told and not people.closed}
        self.inside = [number for number, figure in enumerate(people.figures) if not figure.outsider]
        self.options = [self._options(number) for number in range(len(turns))]

    def choose(self) -> list[Choice]:
        """The speaker of every turn."""
        choices: list[Choice] = []
        begin = 0
        for number in range(1, len(self.turns) + 1):
            if number == len(self.turns) or self._gap(number) > 12:
                choices += self._chain(begin, number)
                begin = number
        return choices

    def _gap(self, number: int) -> int:
        """Paragraphs from the turn before to this one."""
        return self.turns[number].paragraph - self.turns[number - 1].paragraph

    def _options(self, number: int) -> dict[int, float]:
        """Candidates of a turn, with what speaks for each of them alone."""
        turn = self.turns[number]
        near = self._near(number)
        if turn.known is not None:
            near.setdefault(turn.known, 0.0)
        for figure in [*turn.beats, *([] if turn.kin is None else [turn.kin])]:
            near.setdefault(figure, 0.0)
        if self.people.closed and len(self.inside) <= MOST:
            for figure in self.inside:
                near.setdefault(figure, 0.0)
            near = {
                figure: value
                for figure, value in near.items()
                if not self.people.figures[figure].outsider or turn.kin == figure
            }
        scored = {figure: value + self._alone(turn, figure, near) for figure, value in near.items()}
        best = sorted(scored, key=lambda figure: (-scored[figure], figure))[:MOST]
        return {
            UNKNOWN: MISSING if self.people.closed else STRANGER,
            **{figure: scored[figure] for figure in best},
        }

    def _near(self, number: int) -> dict[int, float]:
        """Figures near a turn: the nearer their names in the narration, the more likely."""
        turn, found = self.turns[number], dict[int, float]()
        here = turn.paragraph
        for table, weight in (
            (self.places.told, NEAR),
            (self.places.asked, ASKED * NEAR),
            (self.places.acting, ACTOR * NEAR),
        ):
            low = bisect_left(table, (here - 8, -1))
            high = bisect_right(table, (here + 1, 1 << 30))
            for paragraph, figure in table[max(low, high - CROWD) : high]:
                distance = here - paragraph if paragraph <= here else 3
                value = weight / (1 + 0.5 * max(0, distance - 1))
                found[figure] = max(found.get(figure, 0.0), value)
        for other in range(max(0, number - 12), min(len(self.turns), number + 7)):
            known, away = self.turns[other].known, abs(self.turns[other].paragraph - here)
            if known is not None and away <= 24:
                found[known] = max(found.get(known, 0.0), NEAR * (0.8 if away <= 10 else 0.3))
        return found

    def _alone(self, turn: Turn, number: int, near: Iterable[int]) -> float:
        figure = self.people.figures[number]
        score = 0.0 if self.people.closed else FAMILIAR * log1p(self.told[number])
        if turn.known is not None:
            weight = NAMED if turn.kind in ("name", "pronoun") else DESCRIBED
            score += weight if number == turn.known else 0.0
            if turn.kind == "noun" and number != turn.known:
                score += self._gender(figure, self.people.figures[turn.known].gender)
        elif turn.gender:
            score += KIN if number == turn.kin else 0.0
            score += self._gender(figure, turn.gender)
            score -= 4.0 * figure.narrator
            if turn.wed and figure.married:
                score += 2 * MARRIED if self._spouse(number, near) else MARRIED
        if number in turn.beats:
            score += ACTING - 1.0 * turn.beats.index(number) + (LED if turn.led else 0.0)
        elif turn.beat_gender and turn.known is None and not turn.beats:
            score += 0.5 * self._gender(figure, turn.beat_gender)
        if number in turn.called:
            score += CALLED
        elif number in turn.named:
            score += MENTIONED
        if figure.narrator and turn.known is None:
            score -= 0.5
        if number in self.spoken_of and turn.known != number:
            score += SPOKEN_OF
        if figure.outsider:
            score -= OUTSIDER
        return score - (1.0 if figure.described and not self.people.closed and number != turn.known else 0.0)

    def _spouse(self, number: int, near: Iterable[int]) -> bool:
        """Whether somebody near by has the same surname and the other gender."""
        figure = self.people.figures[number]
        surnames = {alias[-1] for alias in figure.aliases}
        return any(
            alias[-1] in surnames and other.gender != figure.gender
            for other in (self.people.figures[each] for each in near)
            for alias in other.aliases
        )

    @staticmethod
    def _gender(figure: Figure, gender: str) -> float:
        if not figure.gender or not gender:
            return 0.0
        return GENDER if figure.gender == gender else WRONG_GENDER

    def _step(self, number: int, before: int, now: int) -> float:
        """What speaks for two speakers in a row."""
        turn, last = self.turns[number], self.turns[number - 1]
        if turn.linked:
            return LINKED if before == now else -LINKED
        gap = self._gap(number)
        score = ANSWERS if now in last.called and gap <= 2 else 0.0
        if before == now != UNKNOWN:
            score += AGAIN if gap == 1 else 0.4 * AGAIN if gap == 0 else 0.15 * AGAIN if gap == 2 else 0.0
        return score

    def _skip(self, number: int, earlier: int, now: int) -> float:
        """What speaks for the speaker of two turns ago."""
        reach = self.turns[number].paragraph - self.turns[number - 2].paragraph
        return (
            (TAKES_TURN if reach <= 2 else 0.6 * TAKES_TURN if reach <= 4 else 0.2 * TAKES_TURN)
            if earlier == now
            else 0.0
        )

    def _chain(self, begin: int, end: int) -> list[Choice]:
        """Best speakers of the turns from begin to end, by best sums forward and backward over pairs."""
        options = [self.options[number] for number in range(begin, end)]
        forward: list[dict[tuple[int, int], float]] = [
            {(NOBODY, now): value for now, value in options[0].items()}
        ]
        for at in range(1, len(options)):
            forward.append(self._forward(begin + at, forward[-1], options[at]))
        backward = dict.fromkeys(forward[-1], 0.0)
        choices = [_choice(forward[-1], backward)]
        for at in range(len(options) - 1, 0, -1):
            backward = self._backward(begin + at, forward[at - 1], forward[at], backward, options[at])
            choices.append(_choice(forward[at - 1], backward))
        return choices[::-1]

    def _move(self, number: int, pair: tuple[int, int], now: int) -> float:
        score = self._step(number, pair[1], now)
        return score + self._skip(number, pair[0], now) if pair[0] != NOBODY else score

    def _forward(
        self, number: int, last: dict[tuple[int, int], float], options: dict[int, float]
    ) -> dict[tuple[int, int], float]:
        found: dict[tuple[int, int], float] = {}
        for pair, value in last.items():
            for now, alone in options.items():
                score = value + alone + self._move(number, pair, now)
                if score > found.get((pair[1], now), -1e18):
                    found[pair[1], now] = score
        return found

    def _backward(
        self,
        number: int,
        last: dict[tuple[int, int], float],
        this: dict[tuple[int, int], float],
        after: dict[tuple[int, int], float],
        options: dict[int, float],
    ) -> dict[tuple[int, int], float]:
        return {
            pair: max(
                after[pair[1], now] + alone + self._move(number, pair, now)
                for now, alone in options.items()
                if (pair[1], now) in this
            )
            for pair in last
        }


def _choice(forward: dict[tuple[int, int], float], backward: dict[tuple[int, int], float]) -> Choice:
    best: dict[int, float] = {}
    for pair, value in forward.items():
        whole = value + backward[pair]
        best[pair[1]] = max(best.get(pair[1], -1e18), whole)
    order = sorted(best, key=lambda figure: (-best[figure], figure))
    if order[0] == UNKNOWN:
        return Choice(None)
    return Choice(order[0], best[order[0]] - best[order[1]] if len(order) > 1 else 0.0)
