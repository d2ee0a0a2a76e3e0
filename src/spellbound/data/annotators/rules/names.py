"""Names in a text: where they stand, and which of them are persons."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from spellbound.data.annotators.rules.lexicon import Lexicon
from spellbound.data.annotators.rules.phrases import Phrases, telling_after, telling_before
from spellbound.data.annotators.rules.quotes import Quote
from spellbound.data.annotators.rules.words import Words

Key = tuple[str, ...]
_OPENING = " \t\n\u00a0\u202f\"“„«»‘'’(—–-¡¿_*"
_LONGEST = 5


@dataclass(slots=True)
class Seen:
    """How often a name stands in the text, and what says that it is a person."""

    written: Counter[str] = field(default_factory=Counter)
    count: int = 0
    inside: int = 0
    """Not at the beginning of a sentence."""
    bare: int = 0
    """Without an article or adjective before it."""
    speaks: int = 0
    acts: int = 0
    called: int = 0


def candidates(words: Words, known: Lexicon) -> dict[int, int]:
    """First word and end of everything that may be a name."""
    if not known.cased:
        return _after_verbs(words, known)
    found: dict[int, int] = {}
    never, index = known.function_words, 0
    while index < len(words):
        if not words.written[index][0].isupper() and not _begins_titled(words, known, index):
            index += 1
            continue
        last = _sequence(words, known, index)
        first = index
        while first < last and words.keys[first] in never:
            first += 1
        stop = last
        while stop > first and words.keys[stop - 1] in never:
            stop -= 1
        if first < stop and not _inner_stop(words, first, stop, never):
            found[first] = stop
        index = last
    return found


def _begins_titled(words: Words, known: Lexicon, index: int) -> bool:
    """Whether a small title stands before a name: `madame Cormier`."""
    if words.keys[index] not in known.titles or index + 1 == len(words):
        return False
    return words.gap(index) in (" ", "\u00a0", ". ") and words.written[index + 1][0].isupper()


def _short(spelled: str, known: Lexicon) -> bool:
    """Whether a title is written with a full stop, as `Mrs.` and `Prof.` are, and `Sir` is not."""
    bare = not any(letter in "aeiouyáéó" for letter in spelled)
    return spelled in known.titles and (bare or spelled in known.title_nouns)


def _inner_stop(words: Words, first: int, last: int, never: frozenset[str]) -> bool:
    return any(words.keys[at] in never and words.written[at][0].isupper() for at in range(first, last))


def _sequence(words: Words, known: Lexicon, index: int) -> int:
    """End of the capital words that begin at a word: `Mr. Lucian Gregory`, `Anna von Brandt`."""
    last = index + 1
    while last < len(words) and last - index < _LONGEST:
        gap, spelled = words.gap(last - 1), words.keys[last - 1]
        abbreviated = gap in (". ", ".\u00a0", ".") and (_short(spelled, known) or len(spelled) == 1)
        if gap not in (" ", "\u00a0", "-") and not abbreviated:
            break
        if words.written[last][0].isupper() or (spelled in known.titles and words.keys[last] in known.titles):
            last += 1
        elif words.keys[last] in known.particles and last + 1 < len(words) and words.gap(last) in (" ", ""):
            if not words.written[last + 1][0].isupper():
                break
            last += 2
        else:
            break
    if known.capital_nouns and words.keys[index] not in known.titles and last - index > 1:
        return _german(words, known, index, last)
    return last


def _german(words: Words, known: Lexicon, index: int, last: int) -> int:
    """Where nouns have capitals too, a name ends before a word that is one of them."""
    for at in range(index, last):
        if words.keys[at] in known.nouns and words.keys[at] not in known.titles:
            return max(at, index + 1)
    return last


def _after_verbs(words: Words, known: Lexicon) -> dict[int, int]:
    """Without capitals: what follows a speech verb and is no other word, wherever else it stands."""
    never, names = known.function_words | known.nouns.keys() | known.verbs, Counter[str]()
    for index in range(len(words) - 1):
        spelled = words.keys[index + 1]
        if (
            words.keys[index] not in known.verbs
            or words.gap(index) not in (" ", "\u00a0")
            or len(spelled) < 3
        ):
            continue
        if spelled not in never and not spelled.startswith(known.prefixes):
            names[spelled] += 1
    chosen = names.keys() | (known.first_names.keys() & set(words.keys))
    return {index: index + 1 for index, spelled in enumerate(words.keys) if spelled in chosen}


def persons(
    words: Words, known: Lexicon, phrases: Phrases, quotes: list[Quote], paragraphs: list[tuple[int, int]]
) -> dict[Key, Seen]:
    """The names among the candidates that are persons' names, by their words."""
    table: dict[Key, Seen] = defaultdict(Seen)
    lower = Counter(
        spelled for spelled, word in zip(words.keys, words.written, strict=True) if word[0].islower()
    )
    keys = {first: tuple(words.keys[first:last]) for first, last in phrases.names.items()}
    for first, spelled in keys.items():
        seen, last = table[spelled], phrases.names[first]
        seen.count += 1
        seen.written[words.text[words.starts[first] : words.ends[last - 1]]] += 1
        seen.inside += not begins_sentence(words, first)
        seen.bare += first == 0 or not _determined(words, known, first - 1)
        seen.acts += last < len(words) and words.keys[last] in known.actions and words.gap(last - 1) == " "
    for first in speaking_names(phrases, quotes, paragraphs):
        table[keys[first]].speaks += 1
    for first in vocatives(words, phrases.names, quotes):
        table[keys[first]].called += 1
    return {spelled: seen for spelled, seen in table.items() if _is_person(spelled, seen, known, lower)}


def _determined(words: Words, known: Lexicon, index: int) -> bool:
    spelled = words.keys[index]
    if words.gap(index) != " ":
        return False
    if spelled in known.determiners or spelled in known.contractions:
        return True
    return (
        known.capital_nouns
        and words.written[index][0].islower()
        and spelled.endswith(("e", "en", "er", "es", "em"))
        and spelled not in known.verbs
    )


def _is_person(spelled: Key, seen: Seen, known: Lexicon, lower: Counter[str]) -> bool:
    title, rest = split_title(spelled, known)
    if title and rest:
        return True
    if title:
        return seen.speaks + seen.called > 0 and seen.inside + seen.speaks > 0
    if len(rest) == 1 and len(rest[0]) == 1:
        return False
    if known.cased and len(rest) == 1 and lower[rest[0]] > max(1, seen.count // 4):
        return rest[0] in known.first_names and (seen.speaks + seen.called > 0)
    if known.capital_nouns and (seen.bare < 0.6 * seen.count or any(word in known.nouns for word in spelled)):
        return False
    named = rest[0] in known.first_names
    if known.cased and not seen.inside and not named and seen.speaks < 2:
        return False
    return named or seen.speaks > 0 or (seen.called > 1 and seen.count > 2) or seen.acts > 1


def split_title(spelled: Key, known: Lexicon) -> tuple[Key, Key]:
    """The titles that a name begins with, and the rest."""
    at = 0
    while at < len(spelled) and spelled[at] in known.titles:
        at += 1
    return spelled[:at], spelled[at:]


def speaking_names(phrases: Phrases, quotes: list[Quote], paragraphs: list[tuple[int, int]]) -> Iterable[int]:
    """First words of the names that are subjects of a speech verb beside a quote."""
    words = phrases.words
    for number, quote in enumerate(quotes):
        start, end = paragraphs[quote.paragraph]
        last = quotes[number - 1] if number and quotes[number - 1].paragraph == quote.paragraph else None
        following = quotes[number + 1].start if number + 1 < len(quotes) else end
        after = telling_after(phrases, words.first_at(quote.end), words.first_at(min(end, following)))
        begin = words.first_at(last.end if last else start)
        stop = words.first_at(quote.start)
        before = None if after else telling_before(phrases, max(begin, stop - 12), stop)
        told = after or before
        if told and told.subject and told.subject.kind == "name" and told.subject.first in phrases.names:
            yield told.subject.first


def vocatives(words: Words, names: Iterable[int] | dict[int, int], quotes: list[Quote]) -> Iterable[int]:
    """First words of names that are addressed: set off by commas or marks within a quote."""
    ends = names if isinstance(names, dict) else {first: first + 1 for first in names}
    for quote in quotes:
        first, stop = words.first_at(quote.start), words.first_at(quote.end)
        for index in range(first, stop):
            if index not in ends:
                continue
            begins = index == first or words.before(index).strip()[:1] in (",", "!", "?", ".", "…", "—", "–")
            last = min(ends[index], len(words)) - 1
            if begins and words.gap(last).lstrip()[:1] in tuple(",!?.…;\"”»’'—"):
                yield index


def begins_sentence(words: Words, index: int) -> bool:
    """Whether a word is the first of its sentence or quote."""
    before = words.before(index).rstrip(_OPENING)
    return index == 0 or "\n" in words.before(index) or bool(before) or words.before(index).strip() != ""
