"""One training step, forward and backward in float32: ours, transformers with mambapy, the products alone.

``--slow`` adds transformers' plain torch path, which takes minutes a step.
"""

import sys
from collections.abc import Iterator
from functools import partial

import torch

from benchmarks import command, floors
from benchmarks.configs import config_of, our_model, token_ids
from benchmarks.jobs import Job
from benchmarks.lines import Line
from benchmarks.machine import named
from benchmarks.measure import Settings, timed
from benchmarks.products import forward_products

THEME, WHAT, UNIT = "train", "training step", "tokens/s"


def our_step(job: Job, settings: Settings) -> Iterator[Line]:
    """Forward with labels, backward, gradients thrown away before."""
    model = our_model(job.config).train()
    ids_BT = token_ids(model.config, job.batch, job.tokens or 1)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        loss = model(ids_BT, labels=ids_BT).loss
        assert loss is not None
        loss.backward()

    timing = timed(settings, step)
    yield job.line(
        timing, settings, value=ids_BT.numel() / timing.median_s, unit=UNIT, version=named("spellbound")
    )


def peer_step(job: Job, settings: Settings) -> Iterator[Line]:
    """Do the same with transformers."""
    from benchmarks.peers.hf import transformers_model, transformers_version

    mambapy = job.name.endswith("mambapy")
    model = transformers_model(job.config, mambapy=mambapy).train()
    ids_BT = token_ids(model.config, job.batch, job.tokens or 1)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        model(ids_BT, labels=ids_BT, use_cache=False).loss.backward()

    timing = timed(settings, step, warm=mambapy)
    version = transformers_version(mambapy)
    yield job.line(timing, settings, value=ids_BT.numel() / timing.median_s, unit=UNIT, version=version)


def products_step(job: Job, settings: Settings) -> Iterator[Line]:
    """The products of the forward and those of both gradients; the head at every token."""
    tokens = job.batch * (job.tokens or 1)
    products = forward_products(config_of(job.config), tokens, tokens)
    with torch.inference_mode():
        timing = timed(settings, floors.products_work(products, backward=True))
    rate = 3 * sum(product.flops for product in products) / timing.median_s / 1e9
    yield job.line(
        timing,
        settings,
        value=tokens / timing.median_s,
        unit=UNIT,
        version=named("torch"),
        note=f"{rate:.0f} GFLOP/s",
        memory_mb=None,
    )


def plan(options: command.Options) -> list[Job]:
    """Return the measurements in order."""
    tokens = 128 if options.quick else 512
    step = partial(Job, theme=THEME, what=WHAT, config="bench", tokens=tokens, batch=2)
    jobs = [
        step(who="ours", name="ours fp32", measure=our_step),
        step(who="floor", name="products alone", measure=products_step),
        step(who="peer", name="transformers + mambapy", measure=peer_step),
    ]
    if options.slow:
        jobs.append(step(who="peer", name="transformers", measure=peer_step, timeout=1800))
    return jobs


def main() -> None:
    """Run this benchmark alone."""
    command.main([THEME, *sys.argv[1:]])


if __name__ == "__main__":
    main()
