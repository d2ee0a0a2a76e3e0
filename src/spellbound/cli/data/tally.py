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

    def watched(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Pass documents on and count them."""
        for document in documents:
            self.characters += sum(len(part.text) for part in document.parts) or len(document.text)
            self.languages[document.language] += 1
            yield document

    def said(self, refused: int) -> str:
        """Characters, languages, and what could not be read."""
        named = ", ".join(f"{code or 'unknown'} {count}" for code, count in sorted(self.languages.items()))
        unknown = "; give --language for those unknown" if self.languages[""] else ""
        left_out = f"; {refused} files left out" if refused else ""
        return f"{self.characters:,} characters ({named or 'none'}){unknown}{left_out}"
