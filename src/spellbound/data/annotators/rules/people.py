"""Who is who: names that mean the same person, and descriptions of those who have none."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher

from spellbound.data.annotators.rules.lexicon import Gender, Lexicon
from spellbound.data.annotators.rules.names import Key, Seen, split_title
from spellbound.data.annotators.rules.phrases import Subject
from spellbound.data.annotators.rules.words import Words, key
from spellbound.data.documents import Person

_NARRATORS = frozenset({"i", "narrator", "me", "we"})
_ALIKE = 0.85


@dataclass(slots=True)
class Figure:
    """Somebody who may speak."""

    name: str
    aliases: set[Key]
    gender: Gender = ""
    count: int = 0
    described: bool = False
    """Known by a description alone: "the porter"."""
    narrator: bool = False
    person: str = ""
    """Id of the given person that this is."""
    heads: frozenset[str] = frozenset()
    """Nouns by which a description may mean them."""
    words: frozenset[str] = frozenset()
    """All words of the description."""
    married: bool = False
    """Has a title of married people or of heads of families."""
    written: set[str] = field(default_factory=set)
    """The names as they stand in the text."""
    outsider: bool = False
    """Not of the given cast."""
    votes: Counter[str] = field(default_factory=Counter)


class People:
    """The figures of one text, and where their names stand."""

    def __init__(self, figures: list[Figure], lexicon: Lexicon, *, closed: bool) -> None:
        """`closed`: nobody may be added."""
        self.figures = figures
        self.lexicon = lexicon
        self.closed = closed
        self._heads: dict[str, list[int]] = {}
        self._narrator = -1
        for number in range(len(figures)):
            self._note(number)
        self.at: dict[int, int] = {}
        self.ends: dict[int, int] = {}

    def _note(self, number: int) -> None:
        for head in self.figures[number].heads:
            self._heads.setdefault(head, []).append(number)

    def locate(self, words: Words) -> None:
        """Find every place where an alias of a figure stands; the longest alias wins."""
        index: dict[str, list[tuple[Key, int]]] = {}
        for number, figure in enumerate(self.figures):
            for alias in figure.aliases:
                index.setdefault(alias[0], []).append((alias, number))
        for aliases in index.values():
            aliases.sort(key=lambda pair: (-len(pair[0]), pair[1]))
        place = 0
        while place < len(words):
            place = self._locate_at(words, place, index.get(words.keys[place], ()))

    def _locate_at(self, words: Words, place: int, aliases: Iterable[tuple[Key, int]]) -> int:
        if self.lexicon.cased and not words.written[place][0].isupper():
            aliases = [pair for pair in aliases if len(pair[0]) > 1]
            if not aliases:
                return place + 1
        for alias, number in aliases:
            if self._belongs_to_another(words, place, alias, number):
                continue
            end = place + len(alias)
            if (
                tuple(words.keys[place:end]) == alias
                and "\n\n" not in words.text[words.starts[place] : words.ends[end - 1]]
            ):
                self.at[place], self.ends[place] = number, end
                self.figures[number].count += 1
                return end
        return place + 1

    def _belongs_to_another(self, words: Words, place: int, alias: Key, number: int) -> bool:
        """Whether the word before makes it another name: `Miss Bennet` is not Mr. Bennet."""
        if not self.lexicon.cased or not place or words.gap(place - 1) not in (" ", ". ", "-"):
            return False
        before = words.keys[place - 1]
        if before in self.lexicon.titles:
            gender, own = self.lexicon.titles[before], self.figures[number].gender
            return bool(gender and own and gender != own)
        if (
            words.gap(place - 1) != " "
            or self.lexicon.capital_nouns
            or not words.written[place - 1][0].isupper()
        ):
            return False
        return before not in self.lexicon.function_words and before not in self.lexicon.nouns

    def vote(self, words: Words, spoken: Sequence[bool]) -> None:
        """Let pronouns soon after a name say the gender of those of whom nothing else does."""
        for place, number in self.at.items():
            if spoken[place]:
                continue
            for later in range(self.ends[place], min(len(words), place + 14)):
                if later in self.at or "\n" in words.before(later):
                    break
                if not spoken[later] and (gender := self.lexicon.referring.get(words.keys[later])):
                    self.figures[number].votes[gender] += 1
                    break
        for figure in self.figures:
            female, male = figure.votes["female"], figure.votes["male"]
            if not figure.gender and max(female, male) > 1 and max(female, male) >= 2 * min(female, male):
                figure.gender = "female" if female > male else "male"

    def described(self, subject: Subject) -> int | None:
        """The figure that a description means; a new one where the cast is open."""
        words = _words(subject.who)
        best, score = None, 0.0
        for number in self._heads.get(subject.head, ()):
            figure = self.figures[number]
            shared = 1 + len(words & figure.words) - 0.3 * len(words - figure.words)
            if (
                figure.words - figure.heads
                and words - {subject.head}
                and not (words - {subject.head}) & figure.words
            ):
                shared -= 0.8
            if not figure.described:
                shared -= 0.2 - min(0.1, figure.count / 1e5)
            if shared > score:
                best, score = number, shared
        if best is not None or self.closed or not self._may_speak(subject.head):
            return best
        self.figures.append(
            Figure(
                subject.who,
                set(),
                self.lexicon.nouns.get(subject.head, ""),
                described=True,
                heads=frozenset({subject.head}),
                words=words,
            )
        )
        self._note(len(self.figures) - 1)
        return len(self.figures) - 1

    def _may_speak(self, noun: str) -> bool:
        """Whether a noun beside a speech verb is somebody: in tales a lamp may be, a voice is not."""
        known = self.lexicon
        if noun in known.nouns:
            return True
        return known.head_last and len(noun) > 2 and noun not in known.never_speak | known.function_words

    def narrator(self) -> int | None:
        """The figure that says "I"; a new one where the cast is open."""
        if self._narrator < 0:
            known = [number for number, figure in enumerate(self.figures) if figure.narrator]
            if not known and self.closed:
                return None
            if not known:
                self.figures.append(Figure("Narrator", set(), narrator=True))
            self._narrator = known[0] if known else len(self.figures) - 1
        return self._narrator


def clustered(seen: dict[Key, Seen], known: Lexicon) -> list[Figure]:
    """Join names that mean one person: `Mr. Lucian Gregory`, `Mr. Gregory`, `Gregory`."""
    figures: list[Figure] = []
    by_word: dict[str, list[Figure]] = {}
    by_title: dict[str, list[Figure]] = {}
    order = sorted(
        seen,
        key=lambda name: (
            -len(split_title(name, known)[1]),
            not split_title(name, known)[0],
            -seen[name].count,
            name,
        ),
    )
    for name in order:
        title, rest = split_title(name, known)
        gender = _gender(title, rest, known)
        near = (
            [*by_word.get(rest[0], ()), *by_word.get(rest[-1], ())]
            if rest
            else by_title.get(_noun(title[0], known), [])
        )
        near = list({id(each): each for each in near}.values())
        figure = _same(near, title, rest, gender, known)
        if figure is None:
            figure = Figure(seen[name].written.most_common(1)[0][0], set(), gender)
            figures.append(figure)
        figure.aliases.add(name)
        for word in {*rest[:1], *rest[-1:]}:
            by_word.setdefault(word, []).append(figure)
        for word in title[:1]:
            by_title.setdefault(_noun(word, known), []).append(figure)
        figure.heads |= _title_nouns(title, known)
        figure.written.add(seen[name].written.most_common(1)[0][0])
        figure.married = figure.married or bool(known.married & set(title))
        figure.gender = figure.gender or gender
        figure.count += seen[name].count
    for figure in figures:
        figure.name = _display(figure.aliases, seen, known)
        figure.count = 0
    return figures


def _display(aliases: set[Key], seen: dict[Key, Seen], known: Lexicon) -> str:
    """The fullest of a figure's names, with a capital if one has it, and the commonest of these."""

    def rank(alias: Key) -> tuple[int, bool, int, Key]:
        written = seen[alias].written.most_common(1)[0][0]
        return len(split_title(alias, known)[1]), written[0].isupper(), seen[alias].count, alias

    return seen[max(aliases, key=rank)].written.most_common(1)[0][0]


def _words(text: str) -> frozenset[str]:
    return frozenset(key(word) for word in re.findall(r"[^\W_]+", text))


def _noun(title: str, known: Lexicon) -> str:
    return known.title_nouns.get(title, title)


def _title_nouns(title: Key, known: Lexicon) -> frozenset[str]:
    """Nouns by which a title is meant: "the captain", and "the doctor" for `Dr.`."""
    return frozenset(
        known.title_nouns.get(word, word)
        for word in title
        if known.title_nouns.get(word, word) in known.nouns
    )


def _gender(title: Key, rest: Key, known: Lexicon) -> Gender:
    for word in title:
        if known.titles[word]:
            return known.titles[word]
    return known.first_names.get(rest[0], "") if rest and (not title or len(rest) > 1) else ""


def _same(figures: list[Figure], title: Key, rest: Key, gender: Gender, known: Lexicon) -> Figure | None:
    """The figure that a name belongs to, if there is one."""
    if not rest:
        having = [figure for figure in figures if _title_nouns(title, known) & figure.heads]
        return having[0] if len(having) == 1 else None
    matching = []
    for figure in figures:
        if gender and figure.gender and gender != figure.gender:
            continue
        for alias in sorted(figure.aliases):  # of several that fit the first decides
            alias_title, alias_rest = split_title(alias, known)
            if alias_rest and _fits(title, rest, alias_title, alias_rest, known):
                given = rest[0] == alias_rest[0] and len(alias_rest) > 1
                matching.append((given, bool(alias_title) and figure.gender == "male", figure.count, figure))
                break
    if not matching:
        return None
    return max(matching, key=lambda row: row[:3])[3]


def _fits(title: Key, rest: Key, alias_title: Key, alias_rest: Key, known: Lexicon) -> bool:
    if rest == alias_rest:
        return not title or not alias_title or title[0] == alias_title[0] or len(rest) > 1
    if len(rest) > 1:
        return False
    if title and title[0] in known.married and known.titles[title[0]] == "female":
        return rest[0] == alias_rest[-1] and alias_title[:1] == title[:1]
    if rest[0] == alias_rest[0]:
        return True
    return rest[0] == alias_rest[-1] and (not title or not alias_title or title == alias_title)


def given(persons: Iterable[Person], known: Lexicon) -> list[Figure]:
    """Figures for a cast that somebody gave, with the aliases that their names allow."""
    persons = list(persons)
    figures = [_figure(person, known) for person in persons]
    shared: Counter[Key] = Counter()
    partial: list[set[Key]] = []
    for figure in figures:
        parts = set() if figure.described else _parts(figure, known)
        partial.append(parts)
        shared.update(parts | figure.aliases)
    for figure, parts in zip(figures, partial, strict=True):
        figure.aliases |= {part for part in parts if shared[part] == 1}
    for part in sorted(part for part in shared if shared[part] > 1):
        having = [
            figure for figure, parts in zip(figures, partial, strict=True) if part in parts | figure.aliases
        ]
        men = [figure for figure in having if figure.gender == "male"]
        if len(men) == 1 and not any(part in figure.aliases for figure in having):
            men[0].aliases.add(part)
    return figures


def with_outsiders(figures: list[Figure], others: list[Figure], known: Lexicon) -> list[Figure]:
    """The figures of a given cast, and those of the text that are none of them; what is alike is joined."""
    joined = list(figures)
    for other in others:
        same = [figure for figure in figures if _alike(figure, other, known)]
        if len(same) > 1:
            same = [figure for figure in same if figure.aliases & other.aliases] or same
        if len(same) != 1:
            joined.append(replace(other, outsider=True))
            continue
        taken = {alias for figure in figures if figure is not same[0] for alias in figure.aliases}
        same[0].aliases |= other.aliases - taken
        same[0].written |= other.written
        same[0].gender = same[0].gender or other.gender
    return joined


def _alike(figure: Figure, other: Figure, known: Lexicon) -> bool:
    if figure.gender and other.gender and figure.gender != other.gender:
        return False
    if figure.aliases & other.aliases:
        return True
    if other.heads & figure.heads and all(not split_title(alias, known)[1] for alias in other.aliases):
        return True
    for one in figure.aliases:
        for two in other.aliases:
            mine, theirs = split_title(one, known), split_title(two, known)
            if mine[1] and theirs[1] and (_fits(*theirs, *mine, known) or _fits(*mine, *theirs, known)):
                return True
    pairs = ((one[0], two[0]) for one in figure.aliases for two in other.aliases if len(one) == len(two) == 1)
    return any(
        one[0] == two[0] and SequenceMatcher(None, one, two).ratio() >= _ALIKE
        for one, two in pairs
        if min(len(one), len(two)) > 4
    )


def _figure(person: Person, known: Lexicon) -> Figure:
    words = tuple(
        key(word)
        for word in re.findall(r"[^\W_]+(?:['’](?!s\b)[^\W_]+)*", person.name.split(",")[0])
        if word not in "sS"
    )
    narrator = any(word in _NARRATORS for word in words)
    bare = tuple(word for word in words if word not in _NARRATORS)
    while bare and bare[0] in known.determiners:
        bare = bare[1:]
    cut = next((at for at, word in enumerate(bare) if at and word in known.stops), len(bare))
    front = bare[:cut]
    written = re.findall(r"[^\W_]+", person.name.split(",")[0])
    capital = any(part[0].isupper() and key(part) not in known.determiners for part in written)
    title, rest = split_title(front, known)
    nouns = [word for word in front if word in known.nouns]
    described = known.cased and not capital
    gender = person.gender or _gender(title, rest, known) or (known.nouns.get(nouns[-1], "") if nouns else "")
    aliases = {front} if front and not described else set()
    heads = frozenset(nouns if nouns else front[-1:]) if described or nouns else frozenset()
    heads |= _title_nouns(title, known)
    return Figure(
        person.name,
        aliases,
        gender,
        described=described,
        married=bool(known.married & set(title)),
        narrator=narrator,
        person=person.id,
        heads=heads,
        words=frozenset(front),
    )


def _parts(figure: Figure, known: Lexicon) -> set[Key]:
    parts: set[Key] = set()
    for alias in figure.aliases:
        title, rest = split_title(alias, known)
        if rest:
            parts |= {rest, rest[:1], rest[-1:]}
            if title:
                parts |= {(title[-1], rest[-1]), (title[-1], *rest)}
    never = known.determiners | known.stops | known.pronouns.keys()
    return {part for part in parts if part and not (len(part) == 1 and part[0] in never)}
