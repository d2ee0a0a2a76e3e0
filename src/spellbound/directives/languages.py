"""Quotation marks of the nine languages, as printed books of each use them."""

from dataclasses import dataclass

from spellbound.errors import DirectiveError


@dataclass(frozen=True, slots=True)
class QuotationMarks:
    """Opening and closing marks of speech, and of a quotation in it; `dash`: speech may begin with a dash."""

    opening: str
    closing: str
    inner_opening: str
    inner_closing: str
    dash: bool = False


_NBSP = "\u00a0"

MARKS = {
    "en": QuotationMarks("“", "”", "‘", "’"),
    "fr": QuotationMarks(f"«{_NBSP}", f"{_NBSP}»", "“", "”", dash=True),
    "de": QuotationMarks("„", "“", "‚", "‘"),
    "nl": QuotationMarks("‘", "’", "“", "”"),
    "es": QuotationMarks("«", "»", "“", "”", dash=True),
    "pt": QuotationMarks("“", "”", "‘", "’", dash=True),
    "it": QuotationMarks("«", "»", "“", "”", dash=True),
    "ar": QuotationMarks("«", "»", "‹", "›"),
    "he": QuotationMarks("”", "”", "’", "’"),
}


def quotation_marks(language: str) -> QuotationMarks:
    """The marks of a language tag such as `en`, `pt-BR` or `de_AT`; DirectiveError for a tenth language."""
    marks = MARKS.get(language.replace("_", "-").split("-")[0].lower())
    if marks is None:
        raise DirectiveError(
            f"language {language!r} has no quotation marks here; use one of {', '.join(MARKS)}"
        )
    return marks
