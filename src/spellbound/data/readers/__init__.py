"""Readers: what people have (text, Markdown, EPUB, TEI, chats, character cards, tables) to documents."""

from spellbound.data.readers.cards import CharacterCard, read_card
from spellbound.data.readers.chat import Chat, ChatMessage, Siblings, read_chat
from spellbound.data.readers.defaults import NO_DEFAULTS, ReaderDefaults
from spellbound.data.readers.language import guess_language
from spellbound.data.readers.sources import Source, read, read_source, sources
from spellbound.data.readers.stored import read_documents, write_documents

__all__ = [
    "NO_DEFAULTS",
    "CharacterCard",
    "Chat",
    "ChatMessage",
    "ReaderDefaults",
    "Siblings",
    "Source",
    "guess_language",
    "read",
    "read_card",
    "read_chat",
    "read_documents",
    "read_source",
    "sources",
    "write_documents",
]
