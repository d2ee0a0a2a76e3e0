"""Jamba, the hybrid of Mamba-1, attention and mixture of experts (arXiv:2403.19887), small, exact and
resumable.

A drop-in for transformers' model of the same name: same config, same parameter names, same checkpoints.
What is new here:
a state that continues from any point, documents that do not see one another in a packed row, a scan
without CUDA builds.
"""

from spellbound.jamba.model import JambaForCausalLM, JambaModel, JambaOutput
from spellbound.jamba.sequence import SequenceState, new_sequence
from spellbound.jamba.state import JambaState
from spellbound.jamba.together import Piece, read_together

__all__ = [
    "JambaForCausalLM",
    "JambaModel",
    "JambaOutput",
    "JambaState",
    "Piece",
    "SequenceState",
    "new_sequence",
    "read_together",
]
