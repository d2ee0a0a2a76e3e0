"""Where an adapter can be: every product of a Jamba, by name. E experts, F inner, H hidden, V vocabulary."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from spellbound.errors import ModelError
from spellbound.jamba.feed_forward import Experts, Router

Kind = Literal["linear", "embedding", "router", "experts"]
_PLAIN_NAME = re.compile(r"[\w.]+")
# The experts keep both halves in one tensor; who names one of the old names means its half.
_HALVES = ("gate_proj", "up_proj")


@dataclass(frozen=True, kw_only=True)
class Site:
    """A weight that can have an adapter: ``name``, the ``module`` that holds it, and its ``shape``.

    ``shape`` is (outputs, inputs), with the number of experts before it for those, and (V, H) for an
    embedding.
    """

    name: str
    kind: Kind
    module: str
    shape: tuple[int, ...]

    @property
    def experts(self) -> int:
        """How many products there are side by side."""
        return self.shape[0] if self.kind == "experts" else 1

    @property
    def outputs(self) -> int:
        """Size of what comes out."""
        return self.shape[1] if self.kind == "embedding" else self.shape[-2]

    @property
    def inputs(self) -> int:
        """Size of what goes in."""
        return self.shape[0] if self.kind == "embedding" else self.shape[-1]

    @property
    def leaf(self) -> str:
        """The last part of the name."""
        return self.name.rpartition(".")[2]

    def parameters(self, rank: int) -> int:
        """Count the numbers of an adapter of this rank."""
        return self.experts * rank * (self.inputs + self.outputs)

    def names(self) -> Iterator[str]:
        """Yield the name, and those of the halves where the weight is two in one."""
        yield self.name
        if self.kind == "experts" and self.leaf == "gate_up_proj":
            yield from (f"{self.module}.{half}" for half in _HALVES)


def find_sites(model: nn.Module) -> list[Site]:
    """Return every weight of a model that can have an adapter, or has one, in the model's order."""
    tied = bool(getattr(getattr(model, "config", None), "tie_word_embeddings", False))
    return [
        site
        for name, module in model.named_modules()
        for site in _sites_of(name.removesuffix(".base_layer"), module)
        # One of two tied weights cannot change without the other.
        if not (tied and site.leaf in ("embed_tokens", "lm_head"))
    ]


def choose_sites(model: nn.Module, targets: Sequence[str]) -> list[Site]:
    """Return the sites the targets name, in the model's order.

    Raises:
        ModelError: a target that names nothing, or one half of the experts' ``gate_up_proj`` alone.
    """
    sites = find_sites(model)
    chosen: set[str] = set()
    halves: dict[str, set[str]] = {}
    for target in targets:
        hits = [(site, name) for site in sites for name in site.names() if matches(target, name)]
        hits += [
            (site, site.name) for site in sites if site.kind == "experts" and matches(target, site.module)
        ]
        if not hits:
            raise ModelError(_nothing(model, target, sites))
        for site, name in hits:
            if name == site.name:
                chosen.add(site.name)
            else:
                halves.setdefault(site.name, set()).add(name)
    for whole, named in halves.items():
        if len(named) < len(_HALVES) and whole not in chosen:
            raise ModelError(_half(named.pop()))
    return [site for site in sites if site.name in chosen or site.name in halves]


def matches(target: str, name: str) -> bool:
    """Say whether a target names this: by its end, or as a regular expression by the whole."""
    if _PLAIN_NAME.fullmatch(target):
        return name == target or name.endswith(f".{target}")
    return re.fullmatch(target, name) is not None


def _sites_of(name: str, module: nn.Module) -> Iterator[Site]:
    if isinstance(module, nn.Linear):  # not its weight's shape: that of a quantised one is packed
        shape = (module.out_features, module.in_features)
        yield Site(name=name, kind="linear", module=name, shape=shape)
    elif isinstance(module, nn.Embedding):
        shape = (module.num_embeddings, module.embedding_dim)
        yield Site(name=name, kind="embedding", module=name, shape=shape)
    elif isinstance(module, Router):
        yield Site(name=name, kind="router", module=name, shape=tuple(module.weight.shape))
    elif isinstance(module, Experts):
        for part in ("gate_up_proj", "down_proj"):
            shape = tuple(getattr(module, part).shape)
            yield Site(name=f"{name}.{part}", kind="experts", module=name, shape=shape)


def _nothing(model: nn.Module, target: str, sites: list[Site]) -> str:
    """Say that a target names nothing, and what could be named."""
    names = sorted({name.rpartition(".")[2] for site in sites for name in site.names()})
    exists = any(
        matches(target, name)
        for named in (model.named_modules(), model.named_parameters())
        for name, _ in named
    )
    tied = exists and target.rpartition(".")[2] in ("embed_tokens", "lm_head")
    reason = (
        "is tied to another weight, which would change with it"
        if tied
        else "has no product to adapt"
        if exists
        else "matches nothing in this model"
    )
    return f"LoRA target {target!r} {reason}; names there are: {', '.join(names)}"


def _half(name: str) -> str:
    half = name.rpartition(".")[2]
    other = next(each for each in _HALVES if each != half)
    return (
        f"LoRA target {half!r} is half of the experts' gate_up_proj, as in {name}; name {other!r} too,"
        f" or 'feed_forward.{half}' for the dense layers alone"
    )
