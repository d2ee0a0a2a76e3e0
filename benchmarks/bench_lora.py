"""Rank-8 LoRA on a Jamba of true size with random weights, on one GPU: does it train, how much does it take?

The recipe is the source card's, recipes/spellbound-jamba-mini.toml; samples are random tokens of exactly one
length, a quarter of them learnt. Not part of `make bench`: all of Jamba Mini needs a card of 141 GB. Prints a
JSON line a measurement, at once, so that one that fails costs itself:

    python -m benchmarks.bench_lora --lengths 4096x1 4096x2 16384x1 32768x1 --profile FILE

LENGTHxROWS: tokens of a sample, and how many of the step's two are in memory at once. Useful are the products
of a forward pass and of the gradients of its inputs; done are those that checkpointing computes again, too.
"""

import argparse
import gc
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import JambaConfig

from benchmarks.products import forward_products
from spellbound.jamba import JambaForCausalLM
from spellbound.train import adapters, start
from spellbound.train.dataset import Dataset
from spellbound.train.devices import new_accelerator
from spellbound.train.loop import Trainer
from spellbound.train.prepared import order_of
from spellbound.train.recipe import Recipe
from spellbound.train.recipe_file import read_recipe
from spellbound.train.tokens import SAMPLE, Counts, Tokens

RECIPE = Path("recipes/spellbound-jamba-mini.toml")
CONFIG = Path("recipes/jamba-mini.config.json")
GIB = 2**30
LEARNT = 4  # one token in so many


def say(**line: Any) -> None:
    """One measurement."""
    print(json.dumps({"theme": "lora", **line}), flush=True)


def ceilings(device: torch.device) -> float:
    """Measure a bfloat16 product of 8192^3 and a copy, both on random data; return FLOP/s."""
    size = 8192
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = statistics.median(timed(lambda: a @ b) for _ in range(12))
    source = torch.randn(1 << 30, device=device, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    moved = statistics.median(timed(lambda: target.copy_(source)) for _ in range(12))
    rate = 2 * size**3 / seconds
    say(what="bf16 product 8192^3", value=rate / 1e12, unit="TFLOP/s")
    say(what="copy, read and written", value=2 * source.nbytes / moved / 1e12, unit="TB/s")
    return rate


def timed(work: Any) -> float:
    """Seconds on the device."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end)) / 1e3


def samples_of(length: int, count: int, vocabulary: int) -> Dataset:
    """Random tokens, as if they had been read from files."""
    draw = np.random.default_rng(length)
    ids = draw.integers(3, vocabulary, length * count).astype(np.uint32)
    samples = np.zeros(count, dtype=SAMPLE)
    samples["start"] = np.arange(count) * length
    samples["length"], samples["given"], samples["weight"] = length, length - length // LEARNT, 1.0
    empty = Tokens(ids[:0], samples[:0], (Counts(name="none"),))
    return Dataset(Tokens(ids, samples, (Counts(name="random", samples=count),)), empty, {})


def measure(
    recipe: Recipe, model: JambaForCausalLM, length: int, steps: int, rate: float, profile: str
) -> None:
    """A warm-up step, so many timed ones, and a last one under the profiler if a file is named."""
    dataset = samples_of(length, recipe.schedule.batch * (steps + 4), model.config.vocab_size)
    accelerator = new_accelerator(recipe.compute)
    trainer = Trainer(recipe, model, accelerator, order=order_of(recipe, dataset), dataset=dataset, pad_id=0)
    cuda = accelerator.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    losses, seconds = [trainer.take_step()[0]], []
    for _ in range(steps):
        begin = time.perf_counter()
        losses.append(trainer.take_step()[0])
        seconds.append(time.perf_counter() - begin)
    tokens = recipe.schedule.batch * length
    *inner, last = forward_products(model.config, tokens, tokens)
    layers, head = sum(each.flops for each in inner), last.flops
    # Frozen weights: forward, and the gradient of what went in. Checkpointing runs the layers forward twice.
    useful = 2 * layers + 2 * head / LEARNT
    done = 3 * layers + 2 * head / LEARNT
    step = statistics.median(seconds)
    peak = torch.cuda.max_memory_allocated() / GIB if cuda else 0.0
    reserved = torch.cuda.max_memory_reserved() / GIB if cuda else 0.0
    say(
        what="LoRA step",
        tokens=length,
        batch=recipe.schedule.batch,
        rows=recipe.compute.rows,
        value=tokens / step,
        unit="tokens/s",
        seconds=seconds,
        peak_gib=peak,
        reserved_gib=reserved,
        losses=losses,
        gradients="all" if trainer.step >= adapters.STEPS else "not looked at",
        useful_tflops=useful / step / 1e12,
        done_tflops=done / step / 1e12,
        useful_share=useful / step / rate if rate else None,
        done_share=done / step / rate if rate else None,
    )
    if profile and cuda:
        activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities) as traced:
            trainer.take_step()
        table = traced.key_averages().table(
            sort_by="self_cuda_time_total", row_limit=40, max_name_column_width=90
        )
        Path(profile).write_text(table, encoding="utf-8")


def main(arguments: argparse.Namespace) -> None:
    """Makes the model once and measures each case on it."""
    begun = time.monotonic()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    say(
        what="device",
        value=torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        torch=torch.__version__,
    )
    rate = ceilings(device) if device.type == "cuda" else 0.0
    config = JambaConfig.from_dict(json.loads(arguments.config.read_text()))
    kind = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = start.fresh_model(config, 0, kind, device)
    base = read_recipe(RECIPE)
    adapters.attach(model, base.adapter, 0)
    say(
        what="model made",
        value=time.monotonic() - begun,
        unit="s",
        parameters=sum(p.numel() for p in model.parameters()),
    )
    for case in arguments.lengths:
        length, _, rows = case.partition("x")
        if time.monotonic() - begun > arguments.seconds:
            say(what="LoRA step", tokens=int(length), rows=int(rows), error="no time left")
            continue
        settings = [
            f"compute.rows={rows}",
            f"data.length={length}",
            f"schedule.batch={arguments.batch}",
            "schedule.steps=99",
        ]
        try:
            steps = arguments.steps if int(length) < 1 << 15 else min(2, arguments.steps)
            profile = arguments.profile if case == arguments.lengths[0] else ""
            measure(read_recipe(RECIPE, settings), model, int(length), steps, rate, profile)
        except torch.OutOfMemoryError as error:
            say(what="LoRA step", tokens=int(length), rows=int(rows), error=str(error).splitlines()[0])
        for weight in model.parameters():
            weight.grad = None
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--config", type=Path, default=CONFIG)
    options.add_argument("--lengths", nargs="+", default=["4096x1", "4096x2", "16384x1", "32768x1"])
    options.add_argument("--batch", type=int, default=2)
    options.add_argument("--steps", type=int, default=3)
    options.add_argument("--seconds", type=float, default=1e9, help="no case begins later")
    options.add_argument("--profile", default="", help="file for the first case's kernels by time")
    main(options.parse_args())
