"""Where documents begin and end in packed rows. B batch, T time."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from spellbound.errors import ModelError


@dataclass(frozen=True)
class Documents:
    """Documents of a packed batch: ``ids_BT``, one integer a token, a new document wherever it changes."""

    ids_BT: Tensor

    @classmethod
    def of(cls, document_ids: Tensor | None, input_ids: Tensor) -> "Documents | None":
        """Check the shape against ``input_ids`` (B, T); None stays None."""
        if document_ids is None:
            return None
        if document_ids.shape != input_ids.shape or document_ids.is_floating_point():
            raise ModelError(
                f"document_ids has shape {tuple(document_ids.shape)} and dtype {document_ids.dtype}; "
                f"give one integer per token, shape {tuple(input_ids.shape)}"
            )
        return cls(document_ids)

    @cached_property
    def starts_BT(self) -> Tensor:
        """True at the first token of each document, the first of the row included."""
        starts = torch.ones_like(self.ids_BT, dtype=torch.bool)
        starts[:, 1:] = self.ids_BT[:, 1:] != self.ids_BT[:, :-1]
        return starts

    @cached_property
    def lengths(self) -> list[list[int]]:
        """Token counts of the documents of each row, in order."""
        time = self.ids_BT.shape[1]
        rows = []
        for starts_T in self.starts_BT:
            begins = starts_T.nonzero().flatten().tolist()
            rows.append([end - begin for begin, end in zip(begins, [*begins[1:], time], strict=True)])
        return rows

    @cached_property
    def ends(self) -> tuple[Tensor, int]:
        """Where documents begin when all rows lie one behind another, and where the last one ends, int32 of
        one more than there are documents; and the tokens of the longest. One wait for the device."""
        begins = self.starts_BT.flatten().nonzero().flatten()
        ends = torch.cat([begins, begins.new_tensor([self.ids_BT.numel()])]).to(torch.int32)
        return ends, int(ends.diff().max())
