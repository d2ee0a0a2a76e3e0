"""Plays to build examples from: gold by construction, and as many as a test needs."""

import random
from pathlib import Path

from spellbound.data.documents import Document, Part, Person
from spellbound.data.readers import write_documents

PEOPLE = ("Mara", "Tom", "Ilse", "Wirt")
WORDS = (
    *("Hafen", "Glocke", "Nebel", "Boot", "Lampe", "Wind", "Nacht", "Schiff", "Brief", "Turm", "Meer"),
    *("ruft", "kommt", "geht", "bleibt", "wartet", "schweigt", "sucht", "findet", "bringt", "hält"),
)


def play(number: int, speeches: int) -> Document:
    """A play whose words depend on its number alone."""
    rng = random.Random(number)
    parts = [Part(kind="head", text=f"Akt {number}")]
    for at in range(speeches):
        said = " ".join(rng.choices(WORDS, k=rng.randint(5, 25)))
        parts.append(Part(kind="speech", text=f"{said}.", speakers=(rng.choice(PEOPLE).lower(),)))
        if at % 7 == 3:
            parts.append(Part(kind="stage", text="Die Glocke läutet.", speakers=()))
    cast = tuple(Person(id=name.lower(), name=name) for name in PEOPLE)
    return Document(id=f"plays/{number:02d}", parts=tuple(parts), cast=cast, language="de", licence="CC0-1.0")


def shelf(folder: Path, plays: int, speeches: int) -> Path:
    """A folder with plays in two files, a text in another language, and a file that cannot be read."""
    folder.mkdir()
    every = [play(number, speeches) for number in range(plays)]
    write_documents(folder / "a.jsonl", every[::2])
    write_documents(folder / "b.parquet", every[1::2])
    (folder / "prose.md").write_text("---\nlanguage: fr\n---\nLa cloche sonne.")
    (folder / "broken.txt").write_bytes(b"\xff")
    return folder


ROWS = ("examples.parquet", "tagged.parquet", "refused.jsonl", "report.json")


def result(folder: Path) -> dict[str, bytes]:
    """Every file of a finished build."""
    return {name: (folder / name).read_bytes() for name in ROWS}
