"""Tagged stories for tests: made of the simulator's, of plays, and of any paragraphs."""

from hypothesis import strategies as st

from spellbound.data.annotators.drama import Drama
from spellbound.data.documents import Document, Part, Person
from spellbound.data.fields import Provenance
from spellbound.data.simulator import simulate
from spellbound.data.tagged import TaggedStory
from spellbound.directives import Character, render
from spellbound.directives import Text as Prose

MARA = Character("Mara Voss", "32AN4R", (("Gender", "female"),))
TOM = Character("Tom", "K7Q2ZX")
EDA = Character("Eda Lund", "AAAAA1")
CAST = (MARA, TOM, EDA)
PROVENANCE = Provenance(annotator="test", versions={"lexicon": "1"})


def story(*paragraphs: str, doubtful: tuple[tuple[int, int], ...] = (), language: str = "en") -> TaggedStory:
    """A story of paragraphs in markup."""
    return TaggedStory(
        id="stories/one",
        text="\n\n".join(paragraphs),
        cast=CAST,
        language=language,
        licence="CC0-1.0",
        doubtful=doubtful,
        provenance=PROVENANCE,
    )


def simulated(*seeds: int) -> TaggedStory:
    """Simulated stories as one, with the cast of the first."""
    told = [simulate(seed) for seed in seeds]
    return TaggedStory(
        id=f"simulator/{seeds[0]}",
        text="\n\n".join(passage for one in told for passage in one.passages),
        cast=told[0].characters,
        language="en",
        provenance=PROVENANCE,
    )


SPEECHES = {
    "de": (
        "Wer geht da durch den dunklen Wald?",
        "Ich bin es, der alte Müller, und suche mein Pferd.",
        "Lacht.",
        "Man hört Donner.",
    ),
    "es": (
        "¿Quién pasa por el bosque oscuro?",
        "Soy yo, el viejo molinero, y busco mi caballo.",
        "Vase.",
        "Dentro ruido.",
    ),
    "nl": (
        "Wie gaat daar door het donkere bos?",
        "Ik ben het, de oude molenaar, en zoek mijn paard.",
        "Binnen.",
        "Hy klopt.",
    ),
}


def drama(language: str) -> TaggedStory:
    """A play of twelve scenes."""
    asks, answers, acts, sounds = SPEECHES[language]
    parts = [
        part
        for number in range(12)
        for part in (
            Part(kind="head", text=f"{number + 1}."),
            Part(kind="speech", text=asks, speakers=("a",)),
            Part(kind="stage", text=acts, speakers=("a",)),
            Part(kind="speech", text=f"{answers}\n\n{asks}", speakers=("b",)),
            Part(kind="speech", text=" ".join([answers] * (number % 4 + 1)), speakers=("a", "b")),
            Part(kind="stage", text=sounds),
        )
    ]
    people = (Person(id="a", name="Anna", gender="female"), Person(id="b", name="Müller Bernd"))
    return Drama().annotate(
        Document(id=f"plays/{language}", parts=tuple(parts), cast=people, language=language)
    )


WORDS = (
    "rain",
    "Mara",
    "went",
    "home",
    "Wald",
    "casa",
    "a < b",
    "R&D",
    "&amp;",
    "the",
    "“so”",
    "Tom's",
    "بيت",
    "ich",
    "was",
    "is",
)
PROSE = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(
    lambda words: render([Prose(" ".join(words) + ".")], "tagged")
)
SAID = st.builds(
    lambda who, text, marks: f'<quote speaker="{who.speaker_id}">{marks[0]}{text}{marks[1]}</quote>',
    st.sampled_from(CAST),
    PROSE,
    st.sampled_from([("“", "”"), ("«", "»"), ("", ""), ("— ", ""), ("‘", "’"), ("“", "")]),
)
DONE = st.builds(lambda kind, text: f"<{kind}>{text}</{kind}>", st.sampled_from(["action", "sound"]), PROSE)
PARAGRAPHS = st.one_of(
    PROSE,
    SAID,
    DONE,
    st.builds("{} {}".format, SAID, PROSE),
    st.sampled_from(["Chapter 1", "* * *", "A title"]),
)
STORIES = st.builds(
    lambda paragraphs, spans, language: story(
        *paragraphs, doubtful=tuple((min(pair), max(pair)) for pair in spans), language=language
    ),
    st.lists(PARAGRAPHS, min_size=1, max_size=30),
    st.lists(st.tuples(st.integers(0, 900), st.integers(0, 900)), max_size=3),
    st.sampled_from(["en", "de", "es", "ar", "he", "nl", "", "xx"]),
)
"""Any story: headings, tags, marks of any kind or none, doubtful spans anywhere."""
