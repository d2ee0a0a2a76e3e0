"""A few prompts continued by the model as it is, before training and after: for people to compare."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from spellbound.files import replacing
from spellbound.jamba import JambaForCausalLM
from spellbound.train.encoding import Encoder
from spellbound.train.tokens import Tokens

FILE = "samples.json"
LONGEST_PROMPT = 2048
"""Tokens; longer ones would take long on a CPU."""
NEW = 160
"""Tokens that are written."""
TEMPERATURE = 0.7
TEXT_BEGINNING = 24
"""Tokens of a document that are its prompt."""


@dataclass
class Sample:
    """A prompt and what came after it."""

    prompt: str
    before: str = ""
    after: str = ""


def chosen_prompts(valid: Tokens, train: Tokens, count: int) -> list[list[int]]:
    """Token ids of so many prompts, of validation samples if there are any."""
    prompts: list[list[int]] = []
    for tokens in (valid, train):
        for sample in tokens.samples[: 50 * count]:
            given = (
                int(sample["given"]) if sample["given"] > 1 else min(TEXT_BEGINNING, int(sample["length"]))
            )
            if given <= LONGEST_PROMPT and len(prompts) < count:
                start = int(sample["start"])
                prompts.append(tokens.ids[start : start + given].tolist())
    return prompts


def note(
    folder: Path, moment: str, prompts: list[list[int]], model: JambaForCausalLM, encoder: Encoder
) -> None:
    """Continue the prompts and keep the result in the run's folder, as `before` or `after`."""
    # What another beginning of the run noted may be of other data.
    known = read(folder) if moment == "after" else []
    samples = known or [Sample(encoder.tokenizer.decode(prompt)) for prompt in prompts]
    for number, (sample, prompt) in enumerate(zip(samples, prompts, strict=False)):
        written = continued(model, prompt, {encoder.end_id, int(encoder.tokenizer.eos_token_id)}, number)
        setattr(sample, moment, encoder.tokenizer.decode(written))
    with replacing(folder / FILE) as draft:
        content = json.dumps([asdict(sample) for sample in samples], ensure_ascii=False, indent=1)
        draft.write_text(content, encoding="utf-8")


def read(folder: Path) -> list[Sample]:
    """What was noted so far."""
    if not (folder / FILE).is_file():
        return []
    return [Sample(**each) for each in json.loads((folder / FILE).read_text(encoding="utf-8"))]


@torch.inference_mode()
def continued(model: JambaForCausalLM, prompt: list[int], ends: Iterable[int], seed: int) -> list[int]:
    """Token ids that the model writes after a prompt, drawn from the seed."""
    training, ends = model.training, set(ends)
    model.eval()
    draw = torch.Generator().manual_seed(seed)
    state, written = model.new_state(1), list[int]()
    ids = torch.tensor([prompt], device=model.device)
    while len(written) < NEW:
        logits_V = model(ids, state=state, logits_to_keep=1).logits[0, -1]
        token = _drawn(logits_V, draw)
        if token in ends:
            break
        written.append(token)
        ids = torch.tensor([[token]], device=model.device)
    model.fused_step = None  # made of the weights as they are now
    model.train(training)
    return written


def _drawn(logits_V: Tensor, draw: torch.Generator) -> int:
    scores_V = (logits_V.float().cpu() / TEMPERATURE).softmax(-1)
    return int(torch.multinomial(scores_V, 1, generator=draw))
