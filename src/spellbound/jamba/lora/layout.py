"""PEFT's names and layouts of adapters, and ours.

PEFT keeps the factors of experts flat, (E R, I) and (O, R E) with the expert changing fastest in the latter.
It names them after their module: the second parameter of a module is wrapped round the first. Checkpoints of
transformers 4 had a module for each expert, and their adapters two factors for each. E experts, R rank,
I inputs, O outputs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spellbound.jamba.lora.sites import Site

PREFIX = "base_model.model."
_HALVES = ("gate_proj", "up_proj")
_ONE_EXPERT = re.compile(
    rf"{re.escape(PREFIX)}(.+\.experts)\.[0-9]+\.((?:gate|up|down)_proj)\.lora_[AB]\.weight"
)


@dataclass(frozen=True, kw_only=True)
class Factors:
    """An adapter's two factors, as :class:`~spellbound.jamba.lora.layers.LowRank` holds them."""

    site: Site
    alpha: float
    A: Tensor
    B: Tensor

    @property
    def rank(self) -> int:
        """The adapter's rank."""
        return self.B.shape[-1]


def keys(site: Site, *, inner: bool) -> tuple[str, str]:
    """Return PEFT's names of the factors; ``inner``: another parameter of the module has one outside."""
    if site.kind == "embedding":
        return f"{PREFIX}{site.name}.lora_embedding_A", f"{PREFIX}{site.name}.lora_embedding_B"
    module = f"{PREFIX}{site.module}{'.base_layer' if inner else ''}"
    return f"{module}.lora_A.weight", f"{module}.lora_B.weight"


def to_peft(factors: Factors) -> tuple[Tensor, Tensor]:
    """Return both factors in PEFT's layout."""
    A, B = factors.A, factors.B
    if factors.site.kind == "experts":
        A, B = A.flatten(0, 1), B.permute(1, 2, 0).flatten(1)
    return A.contiguous(), B.contiguous()


def from_peft(site: Site, A: Tensor, B: Tensor, alpha: float) -> Factors | str:
    """Return the factors in our layout, or what is wrong with their shapes."""
    experts = site.experts
    fits = A.dim() == B.dim() == 2 and A.shape[1] == site.inputs and B.shape[0] == site.outputs
    if not fits or A.shape[0] != B.shape[1] or not len(A) or len(A) % experts:
        wanted = f"({experts} x rank, {site.inputs}) and ({site.outputs}, {experts} x rank)"
        if experts == 1:
            wanted = f"(rank, {site.inputs}) and ({site.outputs}, rank)"
        return f"shapes {tuple(A.shape)} and {tuple(B.shape)}, where the model needs {wanted}"
    if site.kind == "experts":
        A = A.reshape(experts, -1, site.inputs)
        B = B.reshape(site.outputs, -1, experts).permute(2, 0, 1).contiguous()
    return Factors(site=site, alpha=alpha, A=A, B=B)


@dataclass(frozen=True, kw_only=True)
class Projection:
    """The adapters of all experts' ``gate_proj``, ``up_proj`` or ``down_proj``: A (R, I) and B (O, R)."""

    name: str
    A: Sequence[Tensor]
    B: Sequence[Tensor]
    rank: int
    alpha: float


def part_of_expert(key: str) -> tuple[str, str] | None:
    """Return module and projection of a tensor of one expert alone; None for any other."""
    found = _ONE_EXPERT.fullmatch(key)
    return None if found is None else (found[1], found[2])


def projections(site: Site) -> tuple[str, ...]:
    """Return what the projections in a weight of experts were called when each had a module; else none."""
    if site.kind != "experts":
        return ()
    return _HALVES if site.leaf == "gate_up_proj" else (site.leaf,)


def single_keys(site: Site, projection: str) -> list[tuple[str, str]]:
    """Return for each expert the names of its own A and B."""
    names = [f"{PREFIX}{site.module}.{expert}.{projection}" for expert in range(site.experts)]
    return [(f"{name}.lora_A.weight", f"{name}.lora_B.weight") for name in names]


def join_experts(site: Site, projections: Sequence[Projection]) -> Factors | str:
    """Make one adapter of those of single experts, or say what is wrong with their shapes.

    Gate and up keep what each has learnt, one beside the other: the rank is the sum of theirs.
    """
    As, Bs = [], []
    for part in projections:
        rows = site.outputs // 2 if part.name in _HALVES else site.outputs
        wanted = ((part.rank, site.inputs), (rows, part.rank))
        for A, B in zip(part.A, part.B, strict=True):
            shapes = (tuple(A.shape), tuple(B.shape))
            if shapes != wanted:
                return f"{part.name} of an expert has shapes {shapes}, where the model needs {wanted}"
        begin = rows if part.name == "up_proj" else 0
        B_EOR = torch.zeros(site.experts, site.outputs, part.rank)
        B_EOR[:, begin : begin + rows] = torch.stack(list(part.B)).float() * (part.alpha / part.rank)
        As.append(torch.stack(list(part.A)).float())
        Bs.append(B_EOR)
    A_ERI, B_EOR = torch.cat(As, 1), torch.cat(Bs, 2)
    # Each scale went into its B, so that of the whole is 1.
    return Factors(site=site, alpha=float(B_EOR.shape[-1]), A=A_ERI, B=B_EOR)
