"""transformers' own Jamba: its plain torch path, or with the parallel scan of mambapy."""

from collections.abc import Sequence
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import JambaForCausalLM
from transformers.models.jamba.modeling_jamba import JambaMambaMixer

from benchmarks.configs import config_of, our_mixer, our_model
from benchmarks.machine import named
from benchmarks.peers import peer_module


def transformers_model(config: str, *, mambapy: bool = False) -> Any:
    """Return transformers' model with the same weights as ours, in evaluation mode."""
    transformers.logging.set_verbosity_error()
    settings = config_of(config)
    settings.use_mambapy = mambapy
    if mambapy:
        peer_module("mambapy.pscan")  # without it transformers would go on with its slow loop, and not say so
    model = JambaForCausalLM(settings).float().eval()
    model.load_state_dict(our_model(config).state_dict())
    return model


def transformers_mixer(config: str) -> Any:
    """Return the Mamba mixer of the first layer alone, with our weights."""
    transformers.logging.set_verbosity_error()
    mixer = JambaMambaMixer(config_of(config), 0).float().eval()
    mixer.load_state_dict(our_mixer(config).state_dict())
    return mixer


def transformers_version(mambapy: bool) -> str:
    """Name transformers, and mambapy where it is used."""
    return named("transformers", *["mambapy"] if mambapy else [])


class TransformersReader:
    """transformers' model with its cache."""

    def __init__(self, config: str, *, mambapy: bool) -> None:
        self.model = transformers_model(config, mambapy=mambapy)
        self.version = transformers_version(mambapy)
        self.restart()

    def restart(self) -> None:
        """Begin with no cache."""
        self.cache: Any = None

    @torch.inference_mode()
    def read(self, tokens: Sequence[int]) -> Tensor:
        """Read a prompt, or one token more: several on a cache transformers reads wrongly."""
        assert self.cache is None or len(tokens) == 1
        output = self.model(
            torch.tensor([tokens]), past_key_values=self.cache, use_cache=True, logits_to_keep=1
        )
        self.cache = output.past_key_values
        logits: Tensor = output.logits[0, -1]
        return logits
