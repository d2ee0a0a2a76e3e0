"""How well `spellbound plan` foresees a run on this CPU: memory at most, and tokens a second.

Each case is a run of `spellbound train` in a process of its own, of so many steps on the simulator's
examples; planned and measured stand in its plan.json and log. Prints a JSON line a measurement. Not part of
`make bench`, and worth something only where nothing else runs:

    python -m benchmarks.bench_plan --steps 12
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import JambaConfig

from benchmarks.machine import named
from spellbound.data.rows import write_examples
from spellbound.data.simulator import generate
from spellbound.jamba import JambaForCausalLM

NANO = Path("models/nano")
EXAMPLES = 2000
_MAMBA, _ATTENTION = ("in_proj", "x_proj", "dt_proj", "out_proj"), ("q_proj", "k_proj", "v_proj", "o_proj")
TARGETS = (*_MAMBA, *_ATTENTION, "gate_proj", "up_proj", "down_proj")
MIDDLE: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 1536,
    "num_hidden_layers": 8,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "num_experts": 4,
    "attn_layer_period": 4,
    "attn_layer_offset": 2,
    "expert_layer_period": 2,
    "expert_layer_offset": 1,
}
"""Changes of nano's shape that make a model of middle size."""


@dataclass(frozen=True)
class Case:
    """What is trained, and how."""

    model: str
    method: str
    precision: str
    batch: int
    length: int
    checkpointing: bool = False

    def name(self) -> str:
        """What a line calls it."""
        kept = ", checkpointing" if self.checkpointing else ""
        return f"{self.model}, {self.method}, {self.precision}, {self.batch} x {self.length}{kept}"


CASES = (
    Case("nano", "full", "fp32", 4, 1536),
    Case("nano", "full", "bf16", 4, 1536),
    Case("nano", "lora", "fp32", 2, 2048),
    Case("middle", "full", "bf16", 1, 2048),
    Case("middle", "lora", "fp32", 1, 2048),
    Case("middle", "lora", "bf16", 1, 2048),
    Case("middle", "lora", "bf16", 1, 2048, checkpointing=True),
)


def middle_model(folder: Path) -> int:
    """Write a model of middle size with random weights; return how many it has."""
    config = JambaConfig.from_pretrained(NANO, **MIDDLE)
    torch.manual_seed(0)
    model = JambaForCausalLM(config)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((NANO / name).read_bytes())
    return sum(weight.numel() for weight in model.parameters())


def recipe(case: Case, base: Path, work: Path, steps: int) -> str:
    """Return the recipe of a case."""
    adapter = f"[adapter]\nrank = 8\ntargets = {json.dumps(TARGETS)}\n" if case.method == "lora" else ""
    return f"""
method = "{case.method}"
[model]
base = "{base.resolve()}"
[data]
length = {case.length}
overlong = "drop"
examples = [{{ path = "{work / "examples.parquet"}" }}]
{adapter}
[schedule]
steps = {steps}
batch = {case.batch}
rate = 1e-4
[compute]
precision = "{case.precision}"
gradient_checkpointing = {str(case.checkpointing).lower()}
[run]
folder = "{work / "run"}"
samples = 0
tensorboard = false
log_every = 1
"""


def measure(case: Case, base: Path, work: Path, steps: int) -> None:
    """Train as the case says, and print what was planned and what came of it."""
    (work / "recipe.toml").write_text(recipe(case, base, work, steps), encoding="utf-8")
    command = [sys.executable, "-m", "spellbound", "train", str(work / "recipe.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    line: dict[str, Any] = {"theme": "plan", "what": case.name(), "version": named("spellbound")}
    if done.returncode:
        print(json.dumps({**line, "error": done.stderr.strip().splitlines()[-1]}), flush=True)
        return
    plan = json.loads((work / "run" / "plan.json").read_text(encoding="utf-8"))
    log = [json.loads(each) for each in (work / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    taken = [entry for entry in log if "tokens" in entry]
    planned = next(each for each in done.stdout.splitlines() if "tokens a second" in each).split("planned")[1]
    pace = float(planned.split()[0].replace(",", ""))
    between = [
        (after["tokens"] - before["tokens"]) / (after["seconds"] - before["seconds"])
        for before, after in pairwise(taken)
    ]
    for unit, foreseen, found in (
        ("tokens/s", pace, statistics.median(between)),
        ("GiB", plan["memory_gib"], plan["measured"]["memory_gib"]),
    ):
        off = foreseen / found - 1
        figures = {
            "planned": round(foreseen, 3),
            "value": round(found, 3),
            "unit": unit,
            "off": round(off, 3),
        }
        print(json.dumps({**line, **figures, "steps": len(taken)}), flush=True)


def main() -> None:
    """Measure every case."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--steps", type=int, default=12, help="steps of each run")
    options.add_argument("--only", default="", help="cases whose name has this in it")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "middle"
        count = middle_model(base)
        cores = os.cpu_count()
        print(
            json.dumps(
                {"theme": "plan", "what": "middle", "value": count, "unit": "parameters", "cores": cores}
            )
        )
        examples = Path(folder) / "examples.parquet"
        write_examples(examples, islice(generate(0), EXAMPLES))
        for number, case in enumerate(each for each in CASES if given.only in each.name()):
            work = Path(folder) / str(number)
            work.mkdir()
            (work / "examples.parquet").symlink_to(examples)
            measure(case, NANO if case.model == "nano" else base, work, given.steps)


if __name__ == "__main__":
    main()
