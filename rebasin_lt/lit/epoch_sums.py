"""An epoch's sums, taken where they are computed."""

from __future__ import annotations

import torch
from torch import Tensor

from rebasin_lt.precision import sum_dtype


class EpochSums:
    """Loss, hits and samples of an epoch in one tensor on the device: nothing is read back before the epoch ends.

    `totals` are those of the epoch's batches before, if it began elsewhere.
    """

    def __init__(self, totals: Tensor | None = None) -> None:
        self.count = 0 if totals is None else int(totals[3])
        self._sums = torch.zeros(3, dtype=torch.float64) if totals is None else totals[:3].clone()
        self._views = self._sums.unbind()

    def add(self, losses: Tensor, logits: Tensor, labels: Tensor, times: int = 1, top5: bool = False) -> None:
        """Add a batch: `times` a loss, or their sum; logits of shape (batch, classes), labels of shape (batch,).

        Hits among the first five are counted if `top5`.
        """
        if self._sums.device != logits.device:
            self._move(logits.device)
        loss, hits, among5 = self._views
        loss.add_(losses, alpha=times)
        hits.add_(logits.argmax(dim=1).eq(labels).count_nonzero())
        if top5:
            among5.add_(logits.topk(min(5, logits.shape[1])).indices.eq(labels[:, None]).count_nonzero())
        self.count += len(labels)

    def _move(self, device: torch.device) -> None:
        """Go on there. Sums that nothing was added to are made there: a copy would wait for the device in a step."""
        dtype = sum_dtype(device)
        self._sums = self._sums.to(dtype).to(device) if self.count else torch.zeros(3, dtype=dtype, device=device)
        self._views = self._sums.unbind()

    def totals(self, device: torch.device) -> Tensor:
        """Sum of the losses, hits, hits among the first five, samples: shape (4,), fp64 if the device has it."""
        sums = self._sums.to(sum_dtype(device)).to(device)
        return torch.cat([sums, sums.new_tensor([self.count])])
