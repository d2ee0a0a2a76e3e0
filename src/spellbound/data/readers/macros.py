"""Placeholders that chats and character cards put for names."""

import re

_MACRO = re.compile(r"\{\{ *(user|char|charIfNotGroup|bot) *\}\}|<(user|char|bot)>", re.IGNORECASE)
_COMMENT = re.compile(r"\{\{//.*?\}\}", re.S)


def resolved(text: str, *, user: str, char: str) -> str:
    """Text with {{user}}, {{char}}, <USER>, <CHAR> and <BOT> replaced, without comments and outer space."""
    return _MACRO.sub(
        lambda found: user if (found[1] or found[2]).lower() == "user" else char, _COMMENT.sub("", text)
    ).strip()
