"""Words taken over: is a run of one text also in another?"""

import re

_WORD = re.compile(r"\w+")


def longest_run(text: str, source: str, most: int) -> str:
    """Return the first run of more than `most` words of a text that also stands in the source.

    Case and punctuation do not count. Empty if there is none.
    """
    words = [word.casefold() for word in _WORD.findall(source)]
    there = {tuple(words[at : at + most + 1]) for at in range(len(words) - most)}
    found = list(_WORD.finditer(text))
    own = [match[0].casefold() for match in found]
    for start in range(len(own) - most):
        if tuple(own[start : start + most + 1]) not in there:
            continue
        end = start + most + 1
        while end < len(own) and tuple(own[end - most : end + 1]) in there:
            end += 1
        return text[found[start].start() : found[end - 1].end()]
    return ""
