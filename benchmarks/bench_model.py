"""Reading and writing with a whole model, and one true-size Mamba layer; beside peers and floors.

B batch, T time, H hidden.
"""

import sys
from collections.abc import Iterator
from functools import partial
from time import perf_counter
from typing import Any

import torch

from benchmarks import command, floors
from benchmarks.configs import config_of, our_mixer, our_model, token_ids
from benchmarks.jobs import Job
from benchmarks.lines import Line, Who
from benchmarks.machine import named
from benchmarks.measure import Settings, timed
from benchmarks.products import decode_bytes, forward_products, mamba_products
from benchmarks.readers import Agreement, greedy, open_reader
from spellbound.jamba.attention import Attention

THEME, SPEED, PER_TOKEN = "model", "tokens/s", "µs/token"
PREFILL, DECODE, AGREE = "prefill", "decode after 512", "logits against transformers"
GROWTH, OUTSIDE, AFTER = "growth", "growth outside attention", "decode after a context"
LAYER, LAYER_BOTH = "layer forward", "layer forward and backward"
PROMPT, STEPS, LATER_STEPS = 512, 128, 32
CHECKED_PROMPT, CHECKED_STEPS = 96, 32

# Largest difference of logits, relative to the largest logit, that still counts as the same model.
TOLERANCE = {"F16": 1e-2, "Q8_0": 1e-1, "bf16": 1e-1}
EXACT = 1e-3


def agreement(job: Job, settings: Settings) -> Iterator[Line]:
    """Compare logits with transformers': what computes something else is no peer."""
    ids = token_ids(config_of(job.config), CHECKED_PROMPT + CHECKED_STEPS).tolist()
    reader = open_reader(job.name, job.config, settings)
    expected = open_reader("transformers", job.config, settings)
    found = Agreement.of(reader, expected, ids[:CHECKED_PROMPT], ids[CHECKED_PROMPT:])
    allowed = next((bound for key, bound in TOLERANCE.items() if key in job.name), EXACT)
    wrong = f"differs by {found.median:.1e}, more than {allowed:.0e}: another model"
    yield job.line(
        None,
        settings,
        value=found.median,
        unit="of the largest logit",
        version=reader.version,
        note=f"median of {CHECKED_STEPS + 1} tokens; at worst {found.worst:.1e}",
        error=wrong if found.median > allowed else "",
    )


def prefill(job: Job, settings: Settings) -> Iterator[Line]:
    """Read a prompt from nothing, logits of its last token."""
    reader = open_reader(job.name, job.config, settings)
    ids = token_ids(config_of(job.config), job.tokens or 1).tolist()

    def work() -> None:
        reader.restart()
        reader.read(ids)

    timing = timed(settings, work)
    yield job.line(timing, settings, value=len(ids) / timing.median_s, unit=SPEED, version=reader.version)


def prefill_products(job: Job, settings: Settings) -> Iterator[Line]:
    """The products of a prefill alone, the head at one token."""
    products = forward_products(config_of(job.config), job.tokens or 1, 1)
    with torch.inference_mode():
        timing = timed(settings, floors.products_work(products))
    yield _products_line(job, settings, timing, products)


def decode(job: Job, settings: Settings) -> Iterator[Line]:
    """Write greedily after a prompt, token by token."""
    reader = open_reader(job.name, job.config, settings)
    ids = token_ids(config_of(job.config), PROMPT).tolist()

    def prompt() -> None:
        reader.restart()
        reader.read(ids)

    timing = timed(settings, lambda: greedy(reader, ids[-1], STEPS), prepare=prompt)
    yield job.line(timing, settings, value=STEPS / timing.median_s, unit=SPEED, version=reader.version)


def decode_products(job: Job, settings: Settings) -> Iterator[Line]:
    """The products of one token, each a matrix and a vector."""
    products = forward_products(config_of(job.config), 1, 1)
    with torch.inference_mode():
        timing = timed(settings, floors.vectors_work(products))
    speed = 1 / timing.median_s
    yield job.line(timing, settings, value=speed, unit=SPEED, version=named("torch"), memory_mb=None)


def decode_reads(job: Job, settings: Settings) -> Iterator[Line]:
    """The bytes a token must read at the bandwidth this machine reads with; for each size of weights."""
    bandwidth, timing = floors.read_bandwidth(settings)
    for name, size in (("fp32", 4), ("bf16", 2)):
        needed = decode_bytes(config_of(job.config), size, PROMPT)
        yield job.line(
            timing,
            settings,
            name=f"bytes to read, {name}",
            value=bandwidth / needed,
            unit=SPEED,
            note=f"{needed / 1e6:.0f} MB at {bandwidth / 1e9:.1f} GB/s; seconds are those of reading 1 GiB",
            memory_mb=None,
        )


def growth(job: Job, settings: Settings) -> Iterator[Line]:
    """Read contexts of growing length at once: time a token, with and without attention; memory; decoding."""
    reading = Reading(job)
    tokens, version = reading.ids_BT.numel(), named("spellbound")
    with torch.inference_mode():
        timing = timed(settings, reading.read)
        kept_mb = reading.state.nbytes() / 2**20
        reading.clock.remove()
        later = timed(settings, reading.write, prepare=lambda: None)
    line = partial(job.line, settings=settings, version=version)
    # The quickest of the runs: the others differ from it by what disturbed them.
    outside = min(reading.outside)
    note = f"{max(0.0, 1 - outside / timing.min_s):.0%} of it attention"
    yield line(timing, value=timing.median_s / tokens * 1e6, unit=PER_TOKEN, note=note)
    yield line(
        timing,
        what=OUTSIDE,
        value=outside / tokens * 1e6,
        unit=PER_TOKEN,
        memory_mb=None if timing.memory_mb is None else round(max(0.0, timing.memory_mb - kept_mb), 1),
        note=f"memory without the {kept_mb:.0f} MiB of the state",
    )
    yield line(later, what=AFTER, value=LATER_STEPS / later.median_s, unit=SPEED, memory_mb=None)


class Reading:
    """Our model reading one context at once, and writing a little after it."""

    def __init__(self, job: Job) -> None:
        self.model = our_model(job.config)
        self.ids_BT = token_ids(self.model.config, 1, job.tokens or 1)
        self.clock = AttentionClock(self.model)
        self.state = self.model.new_state(1)
        self.outside: list[float] = []  # seconds of each reading that were not attention's

    def read(self) -> None:
        """Read the context from nothing."""
        self.state = self.model.new_state(1)
        self.clock.seconds, begin = 0.0, perf_counter()
        self.model(self.ids_BT, state=self.state, logits_to_keep=1)
        if not self.clock.seconds:
            raise RuntimeError("the attention layers were not called as modules; time them otherwise")
        self.outside.append(perf_counter() - begin - self.clock.seconds)

    def write(self) -> None:
        """Read some tokens one by one."""
        for _ in range(LATER_STEPS):
            self.model(self.ids_BT[:, :1], state=self.state, logits_to_keep=1)


class AttentionClock:
    """Seconds spent in the attention layers of a model; on the CPU a call ends when its work is done."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.seconds = self._begin = 0.0
        self._hooks = []
        for module in model.modules():
            if isinstance(module, Attention):
                self._hooks.append(module.register_forward_pre_hook(self._start))
                self._hooks.append(module.register_forward_hook(self._stop))

    def remove(self) -> None:
        """Leave the model as it was: hooks keep single tokens from the one call they would be."""
        for hook in self._hooks:
            hook.remove()

    def _start(self, *_: Any) -> None:
        self._begin = perf_counter()

    def _stop(self, *_: Any) -> None:
        self.seconds += perf_counter() - self._begin


def layer(job: Job, settings: Settings) -> Iterator[Line]:
    """One Mamba mixer alone, ours or transformers'; forward, or forward and backward to its input."""
    ours, both = job.who == "ours", job.what == LAYER_BOTH
    mixer: Any
    if ours:
        mixer = partial(our_mixer(job.config), state=None, documents=None)
        clear = mixer.func.zero_grad
    else:
        from benchmarks.peers.hf import transformers_mixer

        mixer = transformers_mixer(job.config)
        clear = mixer.zero_grad
    x_BTH = torch.randn(1, job.tokens or 1, config_of(job.config).hidden_size, requires_grad=both)

    def work() -> None:
        y_BTH = mixer(x_BTH)
        if both:
            clear(set_to_none=True)
            x_BTH.grad = None
            y_BTH.sum().backward()

    with torch.set_grad_enabled(both):
        timing = timed(settings, work)
    version = named("spellbound" if ours else "transformers")
    yield job.line(timing, settings, value=x_BTH.shape[1] / timing.median_s, unit=SPEED, version=version)


def layer_products(job: Job, settings: Settings) -> Iterator[Line]:
    """The four products of the mixer, with both gradients where the backward is measured."""
    products = mamba_products(config_of(job.config), job.tokens or 1)
    both = job.what == LAYER_BOTH
    with torch.inference_mode():
        timing = timed(settings, floors.products_work(products, backward=both))
    yield _products_line(job, settings, timing, products, times=3 if both else 1)


def _products_line(job: Job, settings: Settings, timing: Any, products: Any, times: int = 1) -> Line:
    rate = times * sum(product.flops for product in products) / timing.median_s / 1e9
    return job.line(
        timing,
        settings,
        value=(job.tokens or 1) / timing.median_s,
        unit=SPEED,
        version=named("torch"),
        note=f"{rate:.0f} GFLOP/s",
        memory_mb=None,
    )


def plan(options: command.Options) -> list[Job]:
    """Return the measurements in order, those of the aims first."""
    lengths = [512] if options.quick else [512, 2048, 8192]
    contexts = [2048, 4096] if options.quick else [2048, 4096, 8192, 16384, 32768, 65536]
    jobs = _agreements("bench") + [job for length in lengths for job in _prefills("bench", length)]
    jobs += _decodes("bench") + _layers(options)
    if not options.quick:
        jobs += _agreements("nano") + _prefills("nano", 2048) + _decodes("nano")
    for config in ("narrow", "bench"):
        for tokens in contexts:
            jobs.append(_job(GROWTH, config, "ours fp32", growth, tokens=tokens, timeout=400))
    return jobs


def _agreements(config: str) -> list[Job]:
    names = ["ours fp32", "ours bf16", "llama.cpp F32"]
    if config == "bench":
        names += ["transformers + mambapy", "llama.cpp F16", "llama.cpp Q8_0"]
    return [_job(AGREE, config, name, agreement) for name in names]


def _prefills(config: str, tokens: int) -> list[Job]:
    names = ["ours fp32", "transformers", "llama.cpp F32"]
    if config == "bench":
        names.append("transformers + mambapy")
        names += ["llama.cpp F32, batch 2048"] if tokens == 2048 else []
    jobs = [_job(PREFILL, config, name, prefill, tokens=tokens) for name in names]
    return [jobs[0], _job(PREFILL, config, "products alone", prefill_products, tokens=tokens), *jobs[1:]]


def _decodes(config: str) -> list[Job]:
    names = ["ours fp32", "transformers", "llama.cpp F32"]
    if config == "bench":
        names += ["ours bf16", "llama.cpp F16", "llama.cpp Q8_0"]
    return [
        *[_job(DECODE, config, name, decode) for name in names],
        _job(DECODE, config, "torch.mv alone", decode_products),
        _job(DECODE, config, "bytes to read", decode_reads),
    ]


def _layers(options: command.Options) -> list[Job]:
    forward, both = (256, 32) if options.quick else (2048, 256)
    jobs = []
    for what, tokens in ((LAYER, forward), (LAYER_BOTH, both)):
        for name, measure in (
            ("ours fp32", layer),
            ("products alone", layer_products),
            ("transformers", layer),
        ):
            jobs.append(_job(what, "mini layer", name, measure, tokens=tokens))
    return jobs


def _job(what: str, config: str, name: str, measure: Any, **more: Any) -> Job:
    floor = name in ("products alone", "torch.mv alone", "bytes to read")
    who: Who = "floor" if floor else "ours" if name.startswith("ours") else "peer"
    return Job(theme=THEME, what=what, config=config, who=who, name=name, measure=measure, **more)


def main() -> None:
    """Run this benchmark alone."""
    command.main([THEME, *sys.argv[1:]])


if __name__ == "__main__":
    main()
