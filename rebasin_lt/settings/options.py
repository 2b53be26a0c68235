"""The options of the analyses: each is one field, with one name, type and description wherever it is written.

Commands, YAML files, `result.json` and errors take the names from here, `--help` the descriptions; importing this is
quick. What several analyses ask for is a class that they inherit.
"""

from __future__ import annotations

from dataclasses import dataclass

SPLITS = ("train", "test")
"""The images that a barrier can be measured on."""

ALIGNED_BY = ("weights", "activations")
"""What the experts of a mixture are compared by; the first is the default."""

MERGES = ("mean",)
"""What the experts of a mixture can be replaced by."""


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """Two networks.

    Args:
        ckpt_a: checkpoint of the trained network A, which is permuted
        ckpt_b: checkpoint of the trained network B, which stays
    """

    ckpt_a: str
    ckpt_b: str


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """How a network is built whose checkpoint does not say it.

    Args:
        model: architecture, where a checkpoint does not say it
        width: of that architecture
        num_classes: of that architecture
    """

    model: str | None = None
    width: float = 1
    num_classes: int = 10


@dataclass(frozen=True, kw_only=True)
class ExampleOptions:
    """An example of what a network is given, to follow its units through it.

    Args:
        input_shape: shape of one example without the batch, such as 3,224,224 or 12, and 16:int64 for token ids; where
            neither the network (example_input_array) nor its data says it
    """

    input_shape: str | None = None


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """A dataset, and what of its batches a network is given.

    Args:
        data: dataset, where a checkpoint does not say it: digits, cifar10, …; one of your own is package.module:name,
            any LightningDataModule or a function that returns loaders
        root: folder of the dataset, where it is not that of the training
        inputs: names of a batch's inputs where it does not tell them, such as input_ids,attention_mask; NAME=ENTRY
            where forward's argument and the batch's entry have two names
    """

    data: str | None = None
    root: str | None = None
    inputs: str | None = None


@dataclass(frozen=True, kw_only=True)
class DataOptions(SourceOptions):
    """A dataset, and where the networks see it.

    Args:
        targets: name of a batch's entry that is its label, where the batch does not tell it
        batch_size: images at a time
        device: auto, cpu, cuda or cuda:N
    """

    targets: str | None = None
    batch_size: int = 500
    device: str = "auto"


@dataclass(frozen=True, kw_only=True)
class ImageOptions(DataOptions):
    """Training images, all or a choice of them.

    Args:
        num_images: random training images to look at; all of them if not given
        seed: of the choice of images, and of all else that is random
    """

    num_images: int | None = None
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class SplitOptions(ImageOptions):
    """Training images, and test images to measure on.

    Args:
        num_test_images: random test images to measure on; all of them if not given
    """

    num_test_images: int | None = None


@dataclass(frozen=True, kw_only=True)
class StatisticsOptions(SplitOptions):
    """The same, where statistics such as those of batch norm are estimated on the training images.

    Args:
        augment: augment the images that statistics are estimated on as in training, by the seed; those to measure on
            stay as they are
    """

    augment: bool = False


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """By what networks are judged.

    Args:
        loss: what is measured, by name; a function of your own is package.module:name, and validation_step:NAME what
            the module's own validation step logs
    """

    loss: str = "cross_entropy"


@dataclass(frozen=True)
class MatchOptions:
    """How the permutation is found.

    Args:
        method: how units are matched, by what they do on images or by weights; one of your own is package.module:name
        objective: of activations; the similarity of two units to maximise
        stream: of activations; a residual stream is compared at all its points (sum) or at the last
        weight_mix: of activations; share of the similarity of weights, from 0 to 1
        mask_weight_mix: the same for each mask's own permutation, which looks at the weights that it keeps; 0 moves
            masks as the network, as in the paper
        preset: of activations; all settings of a published matching, flaws included, for comparison
        augment: augment the images to match on as in training, by the seed
        seed: of the choice of images, of augmentation, and of the order in which groups are visited
    """

    method: str = "activations"
    objective: str = "correlation"
    stream: str = "sum"
    weight_mix: float = 0.0
    mask_weight_mix: float = 0.5
    preset: str | None = None
    augment: bool = False
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class PermuteOptions(MatchOptions, LossOptions, ImageOptions, ExampleOptions, NetworkOptions, PairOptions):
    """A network to match to another and to permute, with its masks.

    Args:
        masks: mask files of A; each moves by a permutation of its own
        num_alphas: points on the line from A to B at which the loss is measured; 0 skips the barrier
        init_a: checkpoint of A before any step, to say how much of it the masks hold; rewind/0it.ckpt beside --ckpt-a
            if not given
    """

    masks: tuple[str, ...] = ()
    num_alphas: int = 11
    init_a: str | None = None


@dataclass(frozen=True, kw_only=True)
class BarrierOptions(LossOptions, StatisticsOptions, ExampleOptions, NetworkOptions, PairOptions):
    """The line between two networks, and what is measured on it.

    Args:
        permutation: file of a permutation of A, to measure the line from the permuted A too
        masks: one mask in B's order of units for the whole line, or A's own and B's own; the checkpoints' if not given
        num_alphas: points on the line from A to B at which the loss is measured
        corrections: what is done to the points before they are measured; all that apply but temperature if not given
        splits: of train, test the images to measure on
    """

    permutation: str | None = None
    masks: tuple[str, ...] = ()
    num_alphas: int = 25
    corrections: tuple[str, ...] | None = None
    splits: tuple[str, ...] = SPLITS

    def __post_init__(self) -> None:
        for name in ("corrections", "splits"):  # as people write them: a list, or names with commas between
            if (names := getattr(self, name)) is not None:
                object.__setattr__(self, name, tuple(",".join(names).split(",")))


@dataclass(frozen=True, kw_only=True)
class LandscapeOptions(LossOptions, StatisticsOptions, ExampleOptions, NetworkOptions):
    """The plane through A, π(A) and B; or the weights of a network that has two.

    Args:
        two_weights: train and draw the network with two weights, and nothing else
        ckpt_a: checkpoint of A
        ckpt_b: checkpoint of B
        permutation: file of the permutation π of A
        num_points: grid points along each side of the plane
        margin: room around the three networks, in lengths of the longer side
    """

    two_weights: bool = False
    ckpt_a: str | None = None
    ckpt_b: str | None = None
    permutation: str | None = None
    num_points: int = 25
    margin: float = 0.2


@dataclass(frozen=True, kw_only=True)
class DiversityOptions(LossOptions, DataOptions, NetworkOptions):
    """Networks by the name of their setting.

    Args:
        checkpoints: NAME=PATH for each setting; a path is a checkpoint, a run's folder, a folder of runs, a pattern
            such as runs/*/permuted, or several with commas between; the same name again adds to it
    """

    checkpoints: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MaskOptions(SourceOptions, ExampleOptions, NetworkOptions):
    """A mask to analyse, others to compare it with, and the network that it is for.

    Args:
        mask: mask file to analyse
        others: mask files to compare with; overlap is shown against its expectation for independent masks
        ckpt: checkpoint of the network; with it, dead units are followed through the network
        init_a: checkpoint of the network before any step, to say how much of it the mask holds; rewind/0it.ckpt beside
            --ckpt if not given
    """

    mask: str
    others: tuple[str, ...] = ()
    ckpt: str | None = None
    init_a: str | None = None


@dataclass(frozen=True, kw_only=True)
class ExpertsOptions(SplitOptions, LossOptions, ExampleOptions, NetworkOptions):
    """A network with mixtures of experts, and what is done with these once they are aligned.

    Args:
        ckpt: checkpoint of the network
        masks: mask files of the network, which move with its experts
        by: what the hidden units of experts are matched by, their weights or what they do on training images
        expert: the one that all others of its layer are aligned to, counted from 0
        merge: mean replaces all experts of a layer by their mean; the loss is measured without and with alignment
        share_mask: give all experts of a layer the mask of the one they are aligned to; the loss is measured
    """

    ckpt: str
    masks: tuple[str, ...] = ()
    by: str = "weights"
    expert: int = 0
    merge: str | None = None
    share_mask: bool = False


@dataclass(frozen=True, kw_only=True)
class ControlOptions(ImageOptions, ExampleOptions, NetworkOptions):
    """A control mask, and what it is made from; an option that its kind does not use is refused.

    Args:
        kind: what to make; one of your own is package.module:name
        mask: mask file to imitate; sparsity, names and shapes come from it
        sparsity: of all prunable weights of --ckpt together, where there is no mask to imitate
        ckpt: checkpoint of the network whose weights, symmetry or prunable weights are used
        share: of the way from --mask to the magnitudes of --ckpt, for mix
    """

    kind: str
    mask: str | None = None
    sparsity: float | None = None
    ckpt: str | None = None
    share: float = 0.5
