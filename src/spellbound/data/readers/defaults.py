"""What the user says about sources that do not say it themselves."""

import re
from dataclasses import dataclass, replace

from spellbound.data.documents import Document
from spellbound.data.readers.language import guess_language, language_code
from spellbound.errors import InputError

_CODE = re.compile(r"[a-z]{2}|")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderDefaults:
    """Used where a file itself says nothing. Raises InputError for values no document can have."""

    language: str = ""
    """ISO 639-1; where it is empty too, the language is guessed from the text."""
    title: str = ""
    author: str = ""
    source: str = ""
    """Where the files are from; empty: each file's name."""
    licence: str = ""
    attribution: str = ""
    encoding: str = ""
    """Of text files; empty: UTF-8, or what their byte order mark says."""
    text_field: str = ""
    """Column of JSONL and Parquet that holds the text; empty: `text`."""
    user: str = "User"
    """Name put for {{user}} in chats and character cards."""

    def __post_init__(self) -> None:
        """Refuse an unknown encoding, a language that is not a code, and a user without a name."""
        if not _CODE.fullmatch(self.language):
            raise InputError(f"language {self.language!r} is not ISO 639-1; give two letters, as en or he")
        if not self.user.strip():
            raise InputError(f"user {self.user!r} is no name; give one for {{{{user}}}} in chats and cards")
        if self.encoding:
            try:
                # Not codecs.lookup: it takes base64 and others that give no text as well.
                bytes(4).decode(self.encoding)
            except (LookupError, UnicodeError) as error:
                raise InputError(
                    f"encoding {self.encoding!r} is unknown; give one as cp1252, iso8859-8 or utf-16"
                ) from error

    def complete(self, document: Document, file_name: str) -> Document:
        """Return the document with everything filled in that it did not say itself."""
        language = language_code(document.language) or self.language or guess_language(document.plain)
        return replace(
            document,
            language=language,
            title=document.title or self.title,
            author=document.author or self.author,
            source=document.source or self.source or file_name,
            licence=document.licence or self.licence,
            attribution=document.attribution or self.attribution,
        )


NO_DEFAULTS = ReaderDefaults()
