"""Guesses which of the nine languages a text is in, by its script and its commonest words. Offline."""

import re
from collections import Counter

SAMPLE = 20_000
"""Words looked at: thirds from the beginning, the middle and the end."""
LEAST_WORDS = 20
LEAST_SHARE = 0.12
"""Of all words, those that the winner must know."""
LEAST_LEAD = 1.5
"""Times the runner-up's share."""

_COMMONEST = {
    "en": """the and of to a in he was that it his her i with as had you not she at for on but be is they him
        my said this all have from were which so me no by what one there them when would been out up if we
        their could an who do into your are will then did more like some now about very know how than only
        our little any before must should never where well down""",
    "fr": """de la et le à les il un l que d une en des qui pas elle dans ne se je vous ce du sur plus pour
        est son au sa avec était par lui s mais n tout ses comme c me on y avait cette nous si mon qu été
        dit bien deux sans être aux j ou même fait moi où ma leur peu quand fut votre très aussi rien""",
    "de": """und die der er in sie das zu den ich es nicht war ein mit sich von auf dem so ist eine als wie
        aber ihm hatte ihr wir auch des an noch nur da was daß dass ihn mir du doch wenn aus bei im nach mich
        für dann um einen haben vor über man nun schon sein durch seine mehr wieder einer ja kein wird hat
        sagte sind zum zur immer habe alles hier uns euch ihre am bin dir dich""",
    "nl": """de en het van een dat ik is in niet te zijn hij op die met voor maar zij er aan wat als je ze ook
        haar was hem om mijn door uit bij nog naar dan heeft had over zo na wel daar hun geen kan zal u nu
        hier tot heb mij ick ghy niet sijn dit zou toen waar wie al moet deze werd gij heer ons zich
        zien toe mocht myn zyn aen hebben uw uit eens soo veel laat jou gaat naer wij sy hy""",
    "es": """de que y la el en a los no se con las un por una su para es lo al del me le como más mi si pero
        sin ya sus yo cuando qué había porque era muy todo esta este tan sobre ha él fue hasta aquel ni nos
        quien donde también bien dijo aquella ser son hay entre señor tu te solo eso ella después dos os
        estaba pues aunque usted cual vuestra vos""",
    "pt": """de que e a o não se os um uma do da em para com as é ao no na por mais dos à como seu sua mas lhe
        ele eu das foi era já muito me quando ou sem nem ela nos há também só pelo pela até isso ser tinha são
        bem disse está aos num numa meu minha você tudo havia às sobre então depois olhos lá mesmo vez
        estava ainda senhor porque este essa""",
    "it": """di e che la il non un a è per in una si mi le con l i da al lo come ma più del se della d ho nel
        gli era ha o sua suo ne questo alla cosa aveva io anche c quando su perché dei quello ci poi così
        disse sono nella ed quella tutto dal tutti egli essere bene senza lui delle mio lei sempre fra
        molto ancora dalla due ogni nulla mia qualche avrebbe ella degli ai""",
}
_KNOWN_BY: dict[str, list[str]] = {}
for _code, _words in _COMMONEST.items():
    for _word in set(_words.split()):
        _KNOWN_BY.setdefault(_word, []).append(_code)

_WORD = re.compile(r"[^\W\d_]+")
_HEBREW = re.compile(r"[\u05d0-\u05ea]")
_ARABIC = re.compile(r"[\u0620-\u064a]")
_OTHER_ARABIC_SCRIPT = re.compile(r"[\u067e\u0686\u0698\u06a9\u06af\u06cc\u0679\u0688\u0691\u06ba\u06d2]")
_NAMES = {
    "arabic": "ar", "dutch": "nl", "english": "en", "french": "fr", "german": "de", "hebrew": "he",
    "italian": "it", "portuguese": "pt", "spanish": "es",
    "ara": "ar", "nld": "nl", "dut": "nl", "eng": "en", "fra": "fr", "fre": "fr", "deu": "de", "ger": "de",
    "heb": "he", "iw": "he", "ita": "it", "por": "pt", "spa": "es",
}  # fmt: skip


def language_code(said: str) -> str:
    """ISO 639-1 code of what metadata says: `en-GB`, `eng` or `English`; empty if none."""
    first = re.split(r"[-_,; ]", said.strip().lower(), maxsplit=1)[0]
    code = _NAMES.get(first, first)
    return code if re.fullmatch(r"[a-z]{2}", code) and code not in ("un", "xx") else ""


def guess_language(text: str) -> str:
    """One of en, fr, de, nl, es, pt, it, ar and he; empty if the text is too short, mixed or in another.

    Deterministic. Share of documents guessed right and measured: see docs/data.md.
    """
    words = [word.lower() for word in _sampled(text)]
    if len(words) < LEAST_WORDS:
        return ""
    by_script = _script(words)
    if by_script is not None:
        return by_script
    shares = dict.fromkeys(_COMMONEST, 0.0)
    for word, times in Counter(words).items():
        known = _KNOWN_BY.get(word, ())
        for code in known:
            shares[code] += times / len(known)
    (best, most), (_, next_most) = sorted(shares.items(), key=lambda each: -each[1])[:2]
    sure = most >= LEAST_SHARE * len(words) and most >= LEAST_LEAD * next_most
    return best if sure else ""


def _sampled(text: str) -> list[str]:
    """Words of a text, or of three stretches of a long one."""
    characters = SAMPLE * 2
    if len(text) <= 3 * characters:
        return _WORD.findall(text)[:SAMPLE]
    middle = len(text) // 2
    stretches = (text[:characters], text[middle : middle + characters], text[-characters:])
    return [word for stretch in stretches for word in _WORD.findall(stretch)]


def _script(words: list[str]) -> str | None:
    """The language by its letters, empty for another that shares them; None for another script."""
    hebrew = sum(_HEBREW.search(word) is not None for word in words)
    arabic = sum(_ARABIC.search(word) is not None for word in words)
    if max(hebrew, arabic) < 0.7 * len(words):
        return "" if hebrew + arabic > 0.3 * len(words) else None
    if hebrew > arabic:
        return "he"
    foreign = sum(_OTHER_ARABIC_SCRIPT.search(word) is not None for word in words)
    return "" if foreign > 0.03 * len(words) else "ar"
