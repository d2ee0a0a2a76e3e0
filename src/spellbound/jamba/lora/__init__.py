"""LoRA (arXiv:2106.09685) that trains what its settings say, experts, router and ``dt_proj`` included.

A plan says what a name means before anything is touched; a name that means nothing is an error. Adapters
are kept and read in PEFT's format.
"""

from spellbound.jamba.lora.attach import adapter_parameters, attach_lora, detach_adapter, merge_adapter
from spellbound.jamba.lora.folder import load_adapter, read_adapter, save_adapter
from spellbound.jamba.lora.inspection import AdapterReport, TensorReport, inspect_adapter
from spellbound.jamba.lora.plan import LoraPlan, LoraRow, plan_lora
from spellbound.jamba.lora.settings import LoraSettings
from spellbound.jamba.lora.switching import AdapterSet

__all__ = [
    "AdapterReport",
    "AdapterSet",
    "LoraPlan",
    "LoraRow",
    "LoraSettings",
    "TensorReport",
    "adapter_parameters",
    "attach_lora",
    "detach_adapter",
    "inspect_adapter",
    "load_adapter",
    "merge_adapter",
    "plan_lora",
    "read_adapter",
    "save_adapter",
]
