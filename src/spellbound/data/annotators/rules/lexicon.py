"""What the rules know of a language: the TOML files in `lexicons`, read once."""

import hashlib
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

from spellbound.data.annotators.rules.words import key
from spellbound.errors import InputError

Gender = Literal["female", "male", ""]
LANGUAGES = ("en", "fr", "de", "nl", "es", "pt", "it", "ar", "he")


@dataclass(frozen=True, kw_only=True, slots=True)
class Lexicon:
    """Words of one language, all in lower case and without vowel points."""

    language: str
    cased: bool
    """Names begin with a capital letter."""
    capital_nouns: bool
    """So do all nouns, as in German."""
    elision: bool
    """An apostrophe ends a word, as in French."""
    head_last: bool
    """A noun follows its adjectives."""
    incise: bool
    """"Said he" may stand inside of the quotation marks."""
    dash: bool
    """Speech may begin with a dash."""
    adverb: str
    """How adverbs end."""
    prefixes: tuple[str, ...]
    """Articles that are written as one with the noun."""
    verbs: frozenset[str]
    """Speech verbs, as they stand in narration."""
    verb_genders: MappingProxyType[str, Gender]
    """Gender of the subject, for verbs that show it."""
    pronouns: MappingProxyType[str, str]
    """Subject pronouns: female, male, first or other."""
    referring: MappingProxyType[str, Gender]
    """Every word that gives away the gender of somebody named before."""
    determiners: frozenset[str]
    skipped: frozenset[str]
    """What may stand round a speech verb without being its subject."""
    stops: frozenset[str]
    """Words at which a noun phrase ends."""
    conjunctions: frozenset[str]
    """Of these, the ones after which a subject may stand."""
    never_names: frozenset[str]
    particles: frozenset[str]
    contractions: frozenset[str]
    """Prepositions with an article in them, where nouns have capitals."""
    elided: frozenset[str]
    """Words that begin with an apostrophe."""
    titles: MappingProxyType[str, Gender]
    nouns: MappingProxyType[str, Gender]
    """Words for persons and speaking animals."""
    never_speak: frozenset[str]
    """Nouns that stand beside speech verbs and are nobody."""
    kin: frozenset[str]
    """Nouns for relatives, who often have a name as well."""
    title_nouns: MappingProxyType[str, str]
    """Nouns for titles that are short for them."""
    wed: frozenset[str]
    """Of these, the ones for somebody married."""
    married: frozenset[str]
    """Titles of those."""
    phrasal: frozenset[str]
    """Speech verbs before which or after which a particle may stand, as in "broke in"."""
    particles_after: frozenset[str]
    first_names: MappingProxyType[str, Gender]
    actions: frozenset[str]
    onomatopoeia: frozenset[str]
    sound_nouns: frozenset[str]
    sound_verbs: frozenset[str]
    incise_goes_on: frozenset[str]
    """Words after a comma with which "said he" goes on."""
    digest: str
    """Of the file, for `Provenance.versions`."""

    function_words: frozenset[str]
    """Words that are never anybody's name."""

    def is_adverb(self, spelled: str) -> bool:
        """Whether a word looks like an adverb of manner."""
        return bool(self.adverb) and spelled.endswith(self.adverb) and len(spelled) > len(self.adverb) + 2


def lexicon(language: str) -> Lexicon:
    """The lexicon of a language tag such as `en` or `pt-BR`; InputError for a tenth language."""
    code = language.replace("_", "-").split("-")[0].lower()
    if code not in LANGUAGES:
        raise InputError(
            f"language {language!r} has no lexicon; use one of {', '.join(LANGUAGES)}, or the teacher"
        )
    return _loaded(code)


@cache
def _loaded(code: str) -> Lexicon:
    raw = (files(__package__) / "lexicons" / f"{code}.toml").read_bytes()
    return _lexicon(code, tomllib.loads(raw.decode("utf-8")), hashlib.sha256(raw).hexdigest()[:12])


def _lexicon(code: str, data: dict[str, Any], digest: str) -> Lexicon:
    shape, speech, words = data["shape"], data["speech"], data["words"]
    genders: dict[str, Gender] = {
        **_gendered(speech.get("female", ""), "female"),
        **_gendered(speech.get("male", ""), "male"),
    }
    pronouns, sounds = data["pronouns"], data["sounds"]
    kinds = {kind: pronouns.get(kind, "") for kind in ("other", "first", "female", "male")}
    return Lexicon(
        language=code,
        cased=shape["cased"],
        capital_nouns=shape.get("capital_nouns", False),
        elision=shape.get("elision", False),
        head_last=shape["head"] == "last",
        incise=shape.get("incise", False),
        dash=shape.get("dash", False),
        adverb=shape.get("adverb", ""),
        prefixes=tuple(shape.get("prefixes", "").split()),
        verbs=_set(speech["verbs"]) | genders.keys(),
        verb_genders=MappingProxyType(genders),
        pronouns=MappingProxyType({word: kind for kind, some in kinds.items() for word in _list(some)}),
        referring=MappingProxyType(
            {
                **_gendered(f"{pronouns['female']} {pronouns.get('possessive_female', '')}", "female"),
                **_gendered(f"{pronouns['male']} {pronouns.get('possessive_male', '')}", "male"),
            }
        ),
        determiners=_set(words["determiners"]),
        skipped=_set(words["skipped"]),
        stops=_set(words["stops"]),
        conjunctions=_set(words.get("conjunctions", "")),
        never_names=_set(words.get("never_names", "")),
        particles=_set(words.get("particles", "")),
        contractions=_set(words.get("contractions", "")),
        elided=_set(words.get("elided", "")),
        titles=MappingProxyType(
            {
                **_gendered(words.get("titles", ""), ""),
                **_gendered(words.get("titles_female", ""), "female"),
                **_gendered(words.get("titles_male", ""), "male"),
            }
        ),
        nouns=MappingProxyType(_three(data["nouns"])),
        title_nouns=MappingProxyType(dict(pair.split(":") for pair in words.get("title_nouns", "").split())),
        wed=_set(data["nouns"].get("wed", "")),
        married=_set(words.get("titles_married", "")),
        phrasal=_set(speech.get("phrasal", "")),
        particles_after=_set(speech.get("particles", "")),
        never_speak=_set(data["nouns"].get("never", "")),
        kin=_set(data["nouns"].get("kin", "")),
        first_names=MappingProxyType(_three(data["names"]) if not shape["cased"] else _all_names(code)),
        actions=_set(data["actions"]["verbs"]),
        onomatopoeia=_set(sounds["words"]),
        sound_nouns=_set(sounds["nouns"]),
        sound_verbs=_set(sounds["verbs"]),
        incise_goes_on=_set(words.get("incise_goes_on", "")),
        digest=digest,
        function_words=frozenset(_function_words(words, pronouns)),
    )


def _function_words(words: dict[str, str], pronouns: dict[str, str]) -> set[str]:
    kinds = ("determiners", "skipped", "stops", "conjunctions", "never_names")
    titles = ("titles", "titles_female", "titles_male")
    found = {word for kind in kinds for word in _list(words.get(kind, ""))}
    found |= {word for kind in ("male", "female", "first", "other") for word in _list(pronouns.get(kind, ""))}
    return found - {word for kind in titles for word in _list(words.get(kind, ""))}


@cache
def _names(code: str) -> dict[str, Gender]:
    raw = (files(__package__) / "lexicons" / f"{code}.toml").read_text(encoding="utf-8")
    return _three(tomllib.loads(raw)["names"])


def _all_names(code: str) -> dict[str, Gender]:
    """First names of a language, and those of the others that have capitals: people of a story may travel."""
    found: dict[str, Gender] = {}
    for other in ("en", "fr", "de", "nl", "es", "pt", "it"):
        for name, gender in _names(other).items():
            found[name] = gender if found.get(name, gender) == gender else ""
    return found | _names(code)


def _three(table: dict[str, str]) -> dict[str, Gender]:
    return {
        **_gendered(table.get("other", ""), ""),
        **_gendered(table.get("female", ""), "female"),
        **_gendered(table.get("male", ""), "male"),
    }


def _gendered(words: str, gender: Gender) -> dict[str, Gender]:
    return dict.fromkeys(_list(words), gender)


def _set(words: str) -> frozenset[str]:
    return frozenset(_list(words))


def _list(words: str) -> list[str]:
    return [key(word) for word in words.split()]
