"""The diversity of several networks' answers, and the answers of their ensemble, as one torchmetrics metric."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import binary_calibration_error
from torchmetrics.utilities import dim_zero_cat

from rebasin_lt.errors import InputError, check_least


class EnsembleDiversity(Metric):
    """Accuracy, calibration and diversity of `num_members` classifiers, and of the mean of their probabilities.

    `update` takes the logits of all members for the same images, so one pass over the data serves every result, in
    memory that grows by (num_members + 1) numbers per image. Sums are int64 and fp64; all states are summed or
    concatenated between processes. The metrics are those of arXiv 2505.05143, Table 1, which leaves their conventions
    open: averages here are over images first and pairs second, logarithms are natural, and the ensemble averages
    probabilities, not logits.

    `compute` returns, with M = num_members and p_i the probabilities of member i:

    - `member_accuracy` (M,) and `ensemble_accuracy` (): shares of images classified rightly
    - `member_ece` (M,) and `ensemble_ece` (): expected calibration error, top label, `num_bins` equal bins
    - `disagreement` (): share of images on which two members differ, mean over unordered pairs
    - `kl` (): KL(p_i || p_j) in nats, mean over ordered pairs; infinite where p_j gives a class of p_i exactly 0
    - `js` (): ½ KL(p_i || m) + ½ KL(p_j || m) with m = ½ (p_i + p_j) in nats, so at most ln 2, over unordered pairs
    - `disagreement_matrix`, `kl_matrix` (row i, column j), `js_matrix` (M, M): the same by pair
    - `num_images` ()

    All are fp64. A single member has no pairs: its disagreement, KL and JS are nan, and torchmetrics makes scalars of
    its vectors and matrices.

        >>> diversity = rb.EnsembleDiversity(num_members=2)
        >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 2.0]], [[2.0, 0.0], [2.0, 0.0]]])
        >>> diversity.update(logits, torch.tensor([0, 1]))
        >>> diversity.compute()["disagreement"].item()
        0.5

    Args:
        num_members: networks that are compared
        num_bins: of the calibration error
        kwargs: of `torchmetrics.Metric`
    """

    full_state_update = False  # a batch's own value needs no state of the others
    correct: Tensor
    ensemble_correct: Tensor
    different: Tensor
    kl_sum: Tensor
    js_sum: Tensor
    num_images: Tensor
    confidences: list[Tensor]
    hits: list[Tensor]

    def __init__(self, num_members: int, num_bins: int = 15, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_least("num_members", num_members, 1)
        check_least("num_bins", num_bins, 1)
        self.num_members, self.num_bins = num_members, num_bins
        pairs = (num_members, num_members)
        self.add_state("correct", torch.zeros(num_members, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("ensemble_correct", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("different", torch.zeros(pairs, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("kl_sum", torch.zeros(pairs, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("js_sum", torch.zeros(pairs, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("confidences", [], dist_reduce_fx="cat")  # each (batch, num_members + 1), the ensemble last
        self.add_state("hits", [], dist_reduce_fx="cat")

    @torch.no_grad()
    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            logits: shape (num_members, batch, classes), floating
            targets: shape (batch,), integer classes

        Raises InputError for other shapes.
        """
        if logits.ndim != 3 or len(logits) != self.num_members or logits.shape[1:2] != targets.shape:
            raise InputError(
                f"logits have shape {tuple(logits.shape)} and targets {tuple(targets.shape)}, expected "
                f"({self.num_members}, batch, classes) and (batch,)"
            )
        log_p = logits.double().log_softmax(-1)
        p = log_p.exp()
        confidence, predicted = torch.cat([p, p.mean(0, keepdim=True)]).max(-1)  # (members + 1, batch), ensemble last
        hits, members = predicted == targets, predicted[:-1]
        self.correct += hits[:-1].sum(1)
        self.ensemble_correct += hits[-1].sum()
        self.different += (members[:, None] != members[None]).sum(-1)
        for index in range(self.num_members):
            kl, half_js = _divergences(log_p[index], p[index], log_p)
            self.kl_sum[index] += kl
            self.js_sum[index] += half_js / 2
            self.js_sum[:, index] += half_js / 2
        self.num_images += len(targets)
        self.confidences.append(confidence.T)
        self.hits.append(hits.T)

    def compute(self) -> dict[str, Tensor]:
        """The results over all images so far. Raises InputError without any, and for a member that answers NaN."""
        if not self.num_images:
            raise InputError("there are no images: call update(logits, targets) before compute()")
        confidences, hits = dim_zero_cat(self.confidences), dim_zero_cat(self.hits)
        broken = confidences[:, :-1].isnan().sum(0)
        if broken.any():
            worst = int(broken.argmax())
            raise InputError(
                f"member {worst + 1} of {self.num_members} answers NaN for {int(broken[worst])} of "
                f"{len(confidences)} images: has its training diverged?"
            )
        errors = [
            binary_calibration_error(confidence.contiguous(), hit.long(), n_bins=self.num_bins)
            for confidence, hit in zip(confidences.T, hits.T, strict=True)
        ]
        matrices = {"disagreement": self.different, "kl": self.kl_sum, "js": self.js_sum}
        means = {name: matrix.double() / self.num_images for name, matrix in matrices.items()}
        return {
            "member_accuracy": self.correct.double() / self.num_images,
            "ensemble_accuracy": self.ensemble_correct.double() / self.num_images,
            "member_ece": torch.stack(errors[:-1]),
            "ensemble_ece": errors[-1],
            **{name: _off_diagonal_mean(matrix) for name, matrix in means.items()},
            **{f"{name}_matrix": matrix for name, matrix in means.items()},
            "num_images": self.num_images.clone(),
        }


class ValueDiversity(Metric):
    """Squared errors of `num_members` regressors and of the mean of their answers, and how far they are apart.

    `compute` returns, with M = num_members and means over all values of all targets:

    - `member_loss` (M,) and `ensemble_loss` (): mean squared error
    - `disagreement` (): mean squared difference of the answers of two members, mean over unordered pairs
    - `disagreement_matrix` (M, M): the same by pair
    - `num_images` (): the number of values

    All are fp64. `ensemble_loss` is the mean of `member_loss` less (M − 1) / (2 M) times `disagreement` (the ambiguity
    decomposition of Krogh and Vedelsby, NeurIPS 1994). A single member has no pairs: its disagreement is nan.

    Args:
        num_members: networks that are compared
        kwargs: of `torchmetrics.Metric`

    >>> metric = ValueDiversity(2)
    >>> metric.update(torch.tensor([[1.0, 2.0], [3.0, 2.0]]), torch.tensor([2.0, 2.0]))
    >>> found = metric.compute()
    >>> found["member_loss"].tolist(), found["ensemble_loss"].item(), found["disagreement"].item()
    ([0.5, 0.5], 0.0, 2.0)
    """

    full_state_update = False
    squares: Tensor
    ensemble_squares: Tensor
    differences: Tensor
    num_values: Tensor

    def __init__(self, num_members: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_least("num_members", num_members, 1)
        self.num_members = num_members
        shapes = {"squares": (num_members,), "ensemble_squares": (), "differences": (num_members, num_members)}
        for name, shape in shapes.items():
            self.add_state(name, torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_values", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @torch.no_grad()
    def update(self, answers: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            answers: shape (num_members, …), floating
            targets: shape (…), numbers

        Raises InputError for other shapes.
        """
        if len(answers) != self.num_members or answers.shape[1:] != targets.shape:
            raise InputError(
                f"answers have shape {tuple(answers.shape)} and targets {tuple(targets.shape)}, expected "
                f"({self.num_members}, …) and that without the first"
            )
        answers, targets = answers.double().flatten(1), targets.double().flatten()
        self.squares += (answers - targets).square().sum(1)
        self.ensemble_squares += (answers.mean(0) - targets).square().sum()
        for index, answer in enumerate(answers):
            self.differences[index] += (answers - answer).square().sum(1)
        self.num_values += len(targets)

    def compute(self) -> dict[str, Tensor]:
        """The results over all values so far. Raises InputError without any."""
        if not self.num_values:
            raise InputError("there are no values: call update(answers, targets) before compute()")
        apart = self.differences / self.num_values
        return {
            "member_loss": self.squares / self.num_values,
            "ensemble_loss": self.ensemble_squares / self.num_values,
            "disagreement": _off_diagonal_mean(apart),
            "disagreement_matrix": apart,
            "num_images": self.num_values.clone(),
        }


def _divergences(log_p: Tensor, p: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """KL(p || q) and KL(p || ½ (p + q)) for each q of `others`, shape (members, batch, classes), summed over the batch.

    `log_p` and `p` have shape (batch, classes); both results (members,). With d = log q − log p, log(p / ½ (p + q)) is
    −log1p(expm1(d) / 2): exactly 0 for equal members, and exact where q is many times p. Classes of probability 0
    count nothing, and rounding below 0 is cut off per image.
    """
    d = others - log_p
    kl = -d * p
    js = -torch.log1p(torch.expm1(d.clamp(max=700)) / 2) * p  # at d = 700, p is below 1e-304: the rest adds nothing
    nothing = torch.zeros((), dtype=p.dtype, device=p.device)
    kl, js = (torch.where(p == 0, nothing, terms).sum(-1).clamp(min=0).sum(-1) for terms in (kl, js))
    return kl, js


def _off_diagonal_mean(matrix: Tensor) -> Tensor:
    """Over all ordered pairs of different members; of a symmetric matrix also over the unordered ones."""
    members = len(matrix)
    return (matrix.sum() - matrix.trace()) / (members * (members - 1))
