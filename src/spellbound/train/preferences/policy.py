"""Our Jamba as TRL calls it. B batch, T time, H hidden."""

from typing import Any, cast

from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerFast
from transformers.modeling_outputs import BaseModelOutput

from spellbound.jamba import JambaForCausalLM


class Policy(JambaForCausalLM):
    """A model whose hidden states TRL can ask for; it computes the log-probabilities from them itself.

    TRL pads on the right, where padding needs no mask: what is read before it does not see it.
    """

    @property
    def base_model(self) -> Any:
        """What TRL calls for hidden states, with the arguments of transformers' models."""
        return self._backbone

    def _backbone(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, use_cache: bool = False
    ) -> BaseModelOutput:
        """Return the hidden states (B, T, H) before the head."""
        return BaseModelOutput(last_hidden_state=self.model(input_ids, None, None))


def as_policy(model: JambaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> Policy:
    """Turn a model, adapter and all, into one that TRL can train; its weights stay where they are."""
    model.__class__ = Policy
    # TRL writes the padding token into it, though nothing is generated here.
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id
    )
    return cast(Policy, model)
