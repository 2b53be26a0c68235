"""Batches out of memory: the distribution of augmentation, its independence of batching, and plain passes."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor
from torchvision.transforms import v2

from rebasin_lt.lit.data.epoch_batches import AUGMENTATION, EpochBatches, seeded
from rebasin_lt.lit.data.loader import Normalisation
from rebasin_lt.lit.data.resident import ResidentImages
from rebasin_lt.storage.files import hash_tensors

CPU = torch.device("cpu")
IDENTITY = Normalisation((0.0,), (1 / 255,))
COLOUR = Normalisation((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))


def images_of(count: int = 20, shape=(3, 6, 5), normalise=COLOUR, **settings) -> ResidentImages:
    pixels = torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    return ResidentImages(pixels, torch.arange(count), normalise, **settings)


def outcomes(image: Tensor, padding: int, flip: bool) -> list[tuple[float, ...]]:
    """Every result that RandomCrop with padding and RandomHorizontalFlip can have, one per draw."""
    height, width = image.shape[1:]
    padded = v2.functional.pad(image, [padding])
    found = []
    for mirror in (False, True)[: 1 + flip]:
        for top in range(2 * padding + 1):
            for left in range(2 * padding + 1):
                cut = padded[:, top : top + height, left : left + width]
                found.append(tuple((cut.flip(-1) if mirror else cut).flatten().float().tolist()))
    return found


@pytest.mark.parametrize(("padding", "flip"), [(1, True), (2, False), (0, True), (2, True)])
def test_augmentation_is_uniform_over_the_crops_and_flips_of_torchvision(padding: int, flip: bool) -> None:
    image = torch.arange(1, 13, dtype=torch.uint8).view(1, 4, 3)
    possible = outcomes(image, padding, flip)
    assert len(set(possible)) == len(possible) == (2 * padding + 1) ** 2 * (1 + flip)
    copies = ResidentImages(
        image.repeat(100 * len(possible), 1, 1, 1), torch.zeros(100 * len(possible)).long(), IDENTITY, padding, flip
    )
    sampler = EpochBatches(torch.arange(len(copies)), 512)
    counts = dict.fromkeys(possible, 0)
    for batch, _ in copies.loader(sampler, True, CPU):
        for produced in batch.flatten(1).tolist():
            counts[tuple(produced)] += 1  # a KeyError is an image that torchvision cannot make
    assert chisquare(list(counts.values())).pvalue > 1e-3


def test_augmentation_of_an_image_depends_on_seed_epoch_and_image_alone() -> None:
    images = images_of(padding=2, flip=True)

    def epoch_of(epoch: int = 4, seed: int = 1, **settings) -> dict[int, list[float]]:
        sampler = EpochBatches(torch.arange(20), settings.pop("batch_size", 5), seed=seed, **settings)
        sampler.set_epoch(epoch)
        loader = images.loader(sampler, True, CPU)
        return {n: x.flatten().tolist() for xs, ns in loader for x, n in zip(xs, ns.tolist(), strict=True)}

    reference = epoch_of()
    assert epoch_of(batch_size=7, shuffle=True) == reference
    shares = [epoch_of(rank=rank, world_size=2) for rank in (0, 1)]
    assert shares[0] | shares[1] == reference
    assert epoch_of(epoch=5) != reference != epoch_of(seed=2)


def test_augmented_shifts_of_images_are_independent_of_each_other() -> None:
    images = images_of(count=4000, shape=(1, 2, 2), normalise=IDENTITY, padding=1, flip=True)
    views = images.random_views(seeded(0, 0)).T  # top, left, mirrored
    correlation = torch.corrcoef(torch.cat([views, views.roll(1, dims=1)]).double())
    assert (correlation - torch.eye(6)).abs().max() < 0.06  # 3.8 standard errors of 1/sqrt(4000)


@pytest.mark.parametrize("padding", [0, 3])
def test_plain_batches_are_the_images_normalised_as_torchvision_does(padding: int) -> None:
    images = images_of(padding=padding, flip=True)
    pixels = images_of().pixels
    loader = images.loader(EpochBatches(torch.tensor([2, 11, 5]), 2), False, CPU)
    batches = list(loader)
    transform = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.4, 0.5, 0.6), (0.2, 0.25, 0.3))])
    produced = torch.cat([batch for batch, _ in batches])
    torch.testing.assert_close(produced, transform(pixels[[2, 11, 5]]), rtol=1e-5, atol=1e-6)
    assert produced.dtype == torch.float32
    assert produced.is_contiguous()
    assert torch.cat([labels for _, labels in batches]).tolist() == [2, 11, 5]
    assert [len(labels) for _, labels in batches] == [2, 1]


@pytest.mark.parametrize("flip", [False, True])
def test_views_of_colour_images_are_what_is_drawn_for_each(flip: bool) -> None:
    images = images_of(padding=2, flip=flip, normalise=IDENTITY)
    pixels = images_of().pixels
    loader = images.loader(EpochBatches(torch.arange(20), 7, shuffle=True, seed=5), True, CPU)
    views = images.random_views(seeded(AUGMENTATION, 5)).tolist()
    for batch, labels in loader:
        for produced, n in zip(batch, labels.tolist(), strict=True):
            top, left, mirrored = views[n]
            cut = v2.functional.pad(pixels[n], [2])[:, top : top + 6, left : left + 5]
            assert torch.equal(produced, (cut.flip(-1) if mirrored else cut).float())


def test_a_seed_gives_the_images_that_it_always_gave() -> None:
    """Runs are told apart by their seed, and go on after an update: what is drawn from it may not change."""
    images = images_of(padding=2, flip=True, normalise=IDENTITY)
    sampler = EpochBatches(torch.arange(20), 7, shuffle=True, seed=5)
    sampler.set_epoch(3)
    batches = list(images.loader(sampler, True, CPU))
    assert hash_tensors({str(n): x for n, (x, _) in enumerate(batches)}).startswith("deba0657c8fcdff6")
    assert hash_tensors({str(n): labels for n, (_, labels) in enumerate(batches)}).startswith("8c7a30ceac892abb")


@pytest.mark.parametrize("padding", [0, 2])
@pytest.mark.parametrize("augment", [False, True])
def test_how_pixels_lie_in_memory_does_not_matter(padding: int, augment: bool) -> None:
    pixels = images_of().pixels
    batches = []
    for given in (pixels, pixels.to(memory_format=torch.channels_last)):
        images = ResidentImages(given, torch.arange(20), COLOUR, padding, flip=True)
        batches.append(torch.cat([x for x, _ in images.loader(EpochBatches(torch.arange(20), 6), augment, CPU)]))
    assert torch.equal(*batches)


def test_images_without_augmentation_of_their_own_come_plain() -> None:
    images = images_of()
    sampler = EpochBatches(torch.arange(20), 20)
    ((asked, _),), ((plain, _),) = (list(images.loader(sampler, augment, CPU)) for augment in (True, False))
    assert torch.equal(asked, plain)


def test_a_second_pass_repeats_the_first_unless_the_epoch_changes() -> None:
    loader = images_of(padding=1).loader(EpochBatches(torch.arange(20), 20, shuffle=True), True, CPU)
    first, second = (next(iter(loader))[0] for _ in range(2))
    assert torch.equal(first, second)
    loader.sampler.set_epoch(1)
    assert not torch.equal(next(iter(loader))[0], first)


def test_the_epoch_is_read_when_the_first_batch_is_asked_for() -> None:
    loader = images_of().loader(EpochBatches(torch.arange(20), 20, shuffle=True), False, CPU)
    iterator = iter(loader)
    loader.sampler.set_epoch(3)
    assert next(iterator)[1].tolist() == loader.sampler.begin()[0].tolist()


def test_position_counts_the_batches_handed_out() -> None:
    loader = images_of().loader(EpochBatches(torch.arange(20), 6), False, CPU)
    iterator = iter(loader)
    next(iterator), next(iterator)
    assert loader.state_dict() == {"epoch": 0, "done": 2, "batch_size": 6, "world_size": 1}
    assert len(loader) == 4
    again = images_of().loader(EpochBatches(torch.arange(20), 6), False, CPU)
    again.load_state_dict(loader.state_dict())
    assert torch.equal(next(iter(again))[1], next(iterator)[1])


def test_a_device_gets_its_copy_once() -> None:
    images = images_of(padding=1)
    meta = torch.device("meta")
    assert images.on(CPU) is images
    assert images.on(meta) is images.on(meta)
    assert images.on(meta).labels.device == meta
    loader = images.loader(EpochBatches(torch.arange(20), 6), True, meta)
    assert loader.images is images.on(meta)
    assert loader.normalise.mean.device == meta


@pytest.mark.parametrize("augment", [False, True])
def test_images_can_stay_where_they_are_and_batches_move(augment: bool) -> None:
    meta = torch.device("meta")
    images = images_of(padding=1, on_device=False)
    loader = images.loader(EpochBatches(torch.arange(20), 6), augment, meta)
    assert loader.images is images
    assert images.device == CPU
    for x, labels in loader:
        assert x.device == labels.device == meta
        assert x.shape == (len(labels), 3, 6, 5)
        assert x.dtype == torch.float32


@pytest.mark.gpu
@pytest.mark.parametrize("on_device", [False, True])
def test_batches_on_the_gpu_are_those_on_the_cpu(on_device: bool) -> None:
    for augment in (False, True):
        images = images_of(padding=2, flip=True, on_device=on_device)
        loaders = [
            images.loader(EpochBatches(torch.arange(20), 6, shuffle=True), augment, torch.device(device))
            for device in ("cpu", "cuda:0")
        ]
        for (x, labels), (x_gpu, labels_gpu) in zip(*loaders, strict=True):
            assert x_gpu.is_cuda
            assert torch.equal(labels, labels_gpu.cpu())
            torch.testing.assert_close(x, x_gpu.cpu())
