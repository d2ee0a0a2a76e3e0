"""Whether a prompt gives the completion away: long runs of words that both have."""

import numpy as np

from spellbound.data.words import Hashes, run_hashes

_SHOWN = 12


def shared_run(words: list[str], hashes: Hashes, completion: Hashes, least: int) -> tuple[int, str] | None:
    """The longest run of `least` words or more that the completion has too: its length and how it begins."""
    known = np.sort(run_hashes(completion, least))
    runs = run_hashes(hashes, least)
    if not len(known) or not len(runs):
        return None
    at = np.minimum(np.searchsorted(known, runs), len(known) - 1)
    shared = np.concatenate(([False], known[at] == runs, [False]))
    edges = np.flatnonzero(shared[1:] != shared[:-1]).reshape(-1, 2)
    if not len(edges):
        return None
    start, end = edges[np.argmax(edges[:, 1] - edges[:, 0])]
    length = min(int(end - start) + least - 1, len(completion))
    return length, " ".join(words[start : start + min(_SHOWN, least)])
