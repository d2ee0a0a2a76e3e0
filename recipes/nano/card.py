"""The model card's figures: from the JSON that the commands leave in OUT into marked sections of the card."""

import json
import re
from pathlib import Path
from typing import Any

from recipes.nano import data
from recipes.nano.files import replacing
from spellbound.errors import InputError

Json = dict[str, Any]


def sections(out: Path) -> dict[str, str]:
    """Markdown by section name, made from export.json, data/report.json and evaluation.json."""
    export, report, evaluation = (
        _read(out / name, command)
        for name, command in (
            ("export.json", "export"),
            ("data/report.json", "data"),
            ("evaluation.json", "evaluate"),
        )
    )
    return {
        "size": size(export),
        "training": training(export),
        "data": data.as_markdown(
            {name: made for name, made in report.items() if not name.endswith("_valid")}
        ).strip(),
        "bits": bits(evaluation["bits"]),
        "writing": writing(evaluation["writing"]),
        "samples": samples(evaluation["samples"]),
    }


def _read(path: Path, command: str) -> Json:
    if not path.is_file():
        raise InputError(f"'{path}' is missing; make it with: python -m recipes.nano.{command}")
    read: Json = json.loads(path.read_text(encoding="utf-8"))
    return read


def fill(path: Path, made: dict[str, str]) -> None:
    """Replaces what is between `<!-- NAME -->` and `<!-- /NAME -->` for every section."""
    if not path.is_file():
        raise InputError(f"model card '{path}' is missing; restore it from the repository")
    text = path.read_text(encoding="utf-8")
    for name, content in made.items():
        marked = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        found = list(marked.finditer(text))
        if len(found) != 1:
            raise InputError(f"'{path}' has {len(found)} sections '<!-- {name} -->'; it needs exactly one")
        text = f"{text[: found[0].end(1)]}{content}\n{text[found[0].start(2) :]}"
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def size(export: Json) -> str:
    """Parameters and bytes."""
    errors = ", ".join(f"{name} {error:.1e}" for name, error in export["rounding_errors"].items())
    shape, mixers = export["config"], export["mixers"]
    tied = shape["tie_word_embeddings"]
    attention = [str(number) for number, mixer in enumerate(mixers) if mixer == "attention"]
    return (
        f"{export['parameters']:,} parameters, {export['active_parameters']:,} of them active for a token; "
        f"{export['bytes'] / 1e6:.1f} MB as {export['format']}, whose logits are nearest to those of the "
        f"float32 weights (relative root mean square error: {errors}).\n\n"
        f"{len(mixers)} layers, from 0 on: attention in {' and '.join(attention)}, Mamba-1 in the others; "
        f"hidden size {shape['hidden_size']}, {shape['mamba_d_state']} states a channel, expansion "
        f"{shape['mamba_expand']}. Of every {shape['expert_layer_period']} feed-forwards one mixes "
        f"{shape['num_experts']} experts, {shape['num_experts_per_tok']} of which work on a token. "
        f"Vocabulary {shape['vocab_size']:,}, embeddings {'tied' if tied else 'apart'}."
    )


def training(export: Json) -> str:
    """Steps, tokens and time of each stage."""
    lines = [
        "| stage | tokens | steps | rows x tokens in a step | highest rate | minutes |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for stage, told in export["training"].items():
        planned = f" of {told['steps_planned']:,}" if told["steps"] < told["steps_planned"] else ""
        shape = f"{told['rows_per_step']} x {told['row_tokens']}"
        figures = (f"{told['tokens']:,}", f"{told['steps']:,}{planned}", shape, told["rate"], told["minutes"])
        lines.append(f"| {stage} | " + " | ".join(map(str, figures)) + " |")
    return "\n".join(lines)


def bits(entries: list[Json]) -> str:
    """Bits per byte by source."""
    lines = ["| held-out text | language | documents | bytes | bits per byte |", "|---|---|---:|---:|---:|"]
    lines += [
        f"| {e['source']} | {e['lang']} | {e['documents']:,} | {e['bytes']:,} | {e['bits']:.3f} |"
        for e in entries
    ]
    return "\n".join(lines)


def writing(tallies: dict[str, Json]) -> str:
    """Shares with and without the constraint, then instructions by kind."""
    names = {"constrained": "with the constraint", "free": "without"}
    shown = {name: tallies[key] for key, name in names.items()}
    lines = [f"| | {' | '.join(shown)} |", "|---|---:|---:|"]
    rows = (
        ("well-formed", "well_formed", "passages"),
        ("ended by itself", "ended", "passages"),
        ("has a quote where tags were asked for", "tagged", "tags_asked"),
    )
    for title, part, whole in rows:
        lines.append(f"| {title} | " + " | ".join(share(t[part], t[whole]) for t in shown.values()) + " |")
    told = [tally["instructions"] for tally in shown.values()]
    lines.append(
        "| instructions followed | " + " | ".join(share(t["followed"], t["asked"]) for t in told) + " |"
    )
    for kind in sorted({kind for t in told for kind in t["kinds"]}):
        counts = (t["kinds"].get(kind, {"followed": 0, "asked": 0}) for t in told)
        lines.append(f"| · {kind} | " + " | ".join(share(c["followed"], c["asked"]) for c in counts) + " |")
    words = (f"{t['words'] / max(1, t['passages']):.0f}" for t in shown.values())
    return "\n".join([*lines, "| words a passage, mean | " + " | ".join(words) + " |"])


def share(part: int, whole: int) -> str:
    """`93.5 % of 200`, or a dash if there was nothing."""
    return f"{100 * part / whole:.1f} % of {whole:,}" if whole else "–"


def samples(entries: list[dict[str, str]]) -> str:
    """Prompts and passages as they are, in fences longer than any in them."""
    blocks: list[str] = []
    for number, entry in enumerate(entries, 1):
        prompt, written = _fenced(entry["prompt"]), _fenced(entry["written"])
        blocks.append(f"Sample {number}, prompt:\n\n{prompt}\n\nwritten:\n\n{written}")
    return "\n\n".join(blocks)


def _fenced(text: str) -> str:
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"
