"""What `data check` takes for too long, too similar or given away."""

from dataclasses import dataclass
from pathlib import Path

from spellbound.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Settings of a check; 0 turns a limit off."""

    max_words: int = 20_000
    """Longest completion, in words between white space."""
    max_tokens: int = 0
    """Longest completion, in tokens of `tokenizer`."""
    tokenizer: Path | None = None
    """Folder with a tokenizer.json."""
    leak_past: int = 40
    """Words in a row that past story and completion may not share."""
    leak_instructions: int = 12
    """Words in a row that instructions or character sheets and completion may not share."""
    similarity: float = 0.8
    """From which share of common runs of five words on two texts are near-duplicates: 0.5 to 1."""

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name in ("max_words", "max_tokens", "leak_past", "leak_instructions"):
            if getattr(self, name) < 0:
                raise InputError(
                    f"{name} is {getattr(self, name)}; give 0 for no limit, or a positive number"
                )
        if self.similarity and not 0.5 <= self.similarity <= 1:
            raise InputError(f"similarity is {self.similarity}; give 0, or a share from 0.5 to 1")
        if self.max_tokens and self.tokenizer is None:
            raise InputError(f"max_tokens is {self.max_tokens} without a tokenizer; name a model folder")
