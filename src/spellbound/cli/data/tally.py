"""What was read, in the words of the last line of `spellbound data read`."""

from collections import Counter
from collections.abc import Iterable, Iterator

from spellbound.data.documents import Document


class Tally:
    """Counts documents as they pass."""

    def __init__(self) -> None:
        """Nothing has passed yet."""
        self.characters = 0
        self.languages: Counter[str] = Counter()
        self.repeated = 0
        self._ids: set[str] = set()

    def watched(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Pass documents on and count them."""
        for document in documents:
            self.characters += sum(len(part.text) for part in document.parts) or len(document.text)
            self.languages[document.language] += 1
            self.repeated += document.id in self._ids
            self._ids.add(document.id)
            yield document

    def said(self, refused: int) -> str:
        """Characters, languages, ids that several documents have, and what could not be read."""
        named = ", ".join(f"{code or 'unknown'} {count}" for code, count in sorted(self.languages.items()))
        unknown = "; give --language for those unknown" if self.languages[""] else ""
        repeated = f"; {self.repeated} with the id of another, give each its own" if self.repeated else ""
        left_out = f"; {refused} files left out" if refused else ""
        return f"{self.characters:,} characters ({named or 'none'}){unknown}{repeated}{left_out}"
