"""From a text to its quotes, its figures and who speaks what: the whole of the rules but for the tags."""

from collections.abc import Sequence
from dataclasses import dataclass

from spellbound.data.annotators.rules.lexicon import Lexicon
from spellbound.data.annotators.rules.names import begins_sentence, candidates, persons, vocatives
from spellbound.data.annotators.rules.people import Figure, People, clustered, given, with_outsiders
from spellbound.data.annotators.rules.phrases import Phrases
from spellbound.data.annotators.rules.quotes import Quote, find_quotes
from spellbound.data.annotators.rules.speakers import Attribution, Choice, Places
from spellbound.data.annotators.rules.turns import Turn, TurnReader
from spellbound.data.annotators.rules.words import Words, paragraphs
from spellbound.data.documents import Person

_FIRST_PERSON = 0.012
"""Share of "I" among the words of narration from which on somebody tells the story who takes part."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """What was found in a text."""

    words: Words
    phrases: Phrases
    paragraphs: list[tuple[int, int]]
    quotes: list[Quote]
    people: People
    turns: list[Turn]
    choices: list[Choice]
    """One for each turn."""

    @property
    def figures(self) -> list[Figure]:
        """Everybody who may speak."""
        return self.people.figures


def analyse(text: str, known: Lexicon, cast: Sequence[Person] = ()) -> Analysis:
    """Find quotes and speakers; among the given cast if there is one, else among those the text names."""
    words = Words(text, elision=known.elision)
    spans = paragraphs(text)
    phrases = Phrases(words, known, candidates(words, known))
    quotes = find_quotes(phrases, spans)
    figures = clustered(persons(words, known, phrases, quotes, spans), known)
    if cast:
        figures = with_outsiders(given(cast, known), figures, known)
    people = People(figures, known, closed=bool(cast))
    people.locate(words)
    spoken = _spoken(words, quotes)
    people.vote(words, spoken)
    _find_narrator(people, words, quotes, spoken)
    phrases = Phrases(words, known, people.ends)
    turns = TurnReader(phrases, people, quotes, spans).turns()
    choices = Attribution(people, turns, _places(words, people, spans, spoken)).choose()
    return Analysis(words, phrases, spans, quotes, people, turns, choices)


def _spoken(words: Words, quotes: list[Quote]) -> list[bool]:
    """For each word, whether it stands in a quote."""
    spoken = [False] * len(words)
    for quote in quotes:
        first, last = words.first_at(quote.start), words.first_at(quote.end)
        spoken[first:last] = [True] * (last - first)
    return spoken


def _find_narrator(people: People, words: Words, quotes: list[Quote], spoken: list[bool]) -> None:
    """In a story told by "I", with a given cast: the one who is addressed but hardly ever told of."""
    if not people.closed or any(figure.narrator for figure in people.figures):
        return
    first = sum(
        people.lexicon.pronouns.get(word) == "first"
        for word, said in zip(words.keys, spoken, strict=True)
        if not said
    )
    if first < _FIRST_PERSON * spoken.count(False):
        return
    told = [0] * len(people.figures)
    for place, number in people.at.items():
        told[number] += -1 if spoken[place] else 3
        if (
            place
            and people.lexicon.pronouns.get(words.keys[place - 1]) == "first"
            and words.gap(place - 1) == ", "
        ):
            told[number] -= 10
    for place in vocatives(words, people.ends, quotes):
        told[people.at[place]] -= 4
    named = [
        number for number, figure in enumerate(people.figures) if not figure.described and not figure.outsider
    ]
    if named:
        least = min(named, key=lambda number: (told[number], number))
        if told[least] <= 6:
            people.figures[least].narrator = True


def _places(words: Words, people: People, spans: list[tuple[int, int]], spoken: list[bool]) -> Places:
    """Where names stand, by how they stand there."""
    found = Places([], [], [])
    paragraph = 0
    for place, number in people.at.items():
        while words.starts[place] >= spans[paragraph][1]:
            paragraph += 1
        if spoken[place]:
            found.asked.append((paragraph, number))
        else:
            found.told.append((paragraph, number))
            if begins_sentence(words, place):
                found.acting.append((paragraph, number))
    return found
