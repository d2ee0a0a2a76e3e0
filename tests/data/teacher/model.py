"""A model of few talents behind the server: it reads the prompts and answers by rule, always right."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tests.data.teacher.loopback import Body, Handler, completion

NAMES = ("Mara Voss", "Mara", "John", "the ferryman")
_QUOTE = re.compile("“[^”]*”")
_SENTENCE = re.compile(r"[^.\n“”]+\.")


def answers(handler: Handler, body: Body) -> bool:
    """Answer any question of the annotator and the instructor."""
    task = body["response_format"]["json_schema"]["name"]
    return handler.send(200, completion(json.dumps(_TASKS[task](body["messages"][1]["content"]))))


def sheets(asked: str) -> Any:
    passage = asked.split("Passage:\n\n")[1]
    found = [name for name in NAMES if re.search(rf"\b{name}\b(?! Voss)", passage)]
    texts = {"aliases": [], "gender": "unknown", "voice": "low", "description": ""}
    return {"characters": [{"name": name, "personality": f"as {name} is", **texts} for name in found]}


def groups(asked: str) -> Any:
    entries = re.findall(r"(?m)^(\d+)\. ([^(:]+?)(?: \(|:)", asked)
    mara = [int(number) for number, name in entries if name.startswith("Mara")]
    others = [[int(number)] for number, name in entries if not name.startswith("Mara")]
    named = {int(number): name for number, name in entries}
    texts = {"personality": "", "voice": "", "description": ""}
    made = [mara, *others] if mara else others
    return {
        "characters": [
            {"members": each, "name": max((named[number] for number in each), key=len), **texts}
            for each in made
        ]
    }


def marks(asked: str) -> Any:
    made: list[Any] = []
    for number, text in re.findall(r"(?s)\[(\d+)\] (.*?)(?=\n\n\[|\Z)", asked.split("Passage:\n\n")[1]):
        for quote in _QUOTE.findall(text):
            speaker = next((name for name in NAMES if name in text.replace(quote, "")), "unknown")
            made.append(_mark(int(number), "quote", speaker, quote))
        made += [
            _mark(int(number), "sound", "", sentence.strip())
            for sentence in _SENTENCE.findall(text)
            if "bell" in sentence
        ]
    return {"marks": made}


def _mark(paragraph: int, kind: str, speaker: str, text: str) -> Any:
    words = text.split()
    begins, ends = (text, "") if len(words) < 6 else (" ".join(words[:3]), " ".join(words[-3:]))
    return {"paragraph": paragraph, "kind": kind, "speaker": speaker, "begins": begins, "ends": ends}


def summary(asked: str) -> Any:
    before = asked.split("Summary so far:\n\n")[1].split("\n\nPassage:")[0]
    told = re.findall(r"evening (\d+)", asked.split("Passage:\n\n")[1])
    return {"summary": f"{'' if before.startswith('(') else before} Evenings: {', '.join(told)}.".strip()}


def instructions(asked: str) -> Any:
    count = int(re.findall(r"exactly (\d+) further", asked)[0])
    return {"instruction": "Let it be evening.", "constraints": [f"Wish {n}." for n in range(count)]}


_TASKS: dict[str, Callable[[str], Any]] = {
    "sheets": sheets,
    "groups": groups,
    "marks": marks,
    "summary": summary,
    "instructions": instructions,
    "score": lambda asked: {"reason": "so", "score": 4},
}


def novel(evenings: int) -> str:
    """A story of so many evenings, four paragraphs each."""
    return "\n\n".join(
        f"On evening {number} Mara Voss came down to the harbour and looked for the boat.\n\n"
        f"“Is anybody there on evening {number}?” said Mara. The lamp was out.\n\n"
        f"“Only me, as on every evening {number},” John said, “and the water & the <wind>.”\n\n"
        f"A bell rang {number} times over the water."
        for number in range(evenings)
    )
