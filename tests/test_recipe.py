"""The recipe against the authors' numbers and against timm, whose scheduler and mixing their script uses."""

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from timm.data.mixup import Mixup, mixup_target
from timm.data.random_erasing import RandomErasing
from timm.loss import SoftTargetCrossEntropy
from timm.scheduler import CosineLRScheduler
from torch import nn

from poolformer.backbones import create_backbone
from poolformer.draws import StepPart, seed_all
from poolformer.errors import ConfigError
from poolformer.recipe import BatchAugmentation, EpochScheduler, Schedule, parameter_groups, scaled_lr, smooth_targets

# The defaults of sail-sg/poolformer's train.py at the paper's batch size of 4096.
PEAK, EPOCHS, COOLDOWN = 4e-3, 300, 10
AUTHORS = {"peak_lr": PEAK, "epochs": EPOCHS, "warmup_epochs": 5, "warmup_lr": 1e-6, "min_lr": 1e-5}


def reseed() -> None:
    """timm draws from three sources of random numbers."""
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


def a_batch(size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(size, 3, 16, 16, generator=generator)
    return images, torch.randint(5, (size,), generator=generator)


# ---- learning rate by epoch

# Measured on train.py of sail-sg/poolformer (epochs below 300), and its minimum.
TABLE = [
    (0, 1e-6, 1e-9),
    (1, 8.008e-4, 1e-9),
    (2, 1.6006e-3, 1e-9),
    (3, 2.4004e-3, 1e-9),
    (4, 3.2002e-3, 1e-9),
    (5, 3.99727e-3, 5e-9),  # printed with six digits
    (6, 3.99606e-3, 5e-9),
    (150, 2.005e-3, 1e-9),
    (299, 1.0109e-5, 1e-9),
    *((epoch, 1e-5, 1e-12) for epoch in range(300, 310)),
]


@pytest.mark.parametrize(("epoch", "lr", "tolerance"), TABLE)
def test_the_rate_of_an_epoch_is_the_authors(epoch, lr, tolerance):
    assert Schedule(**AUTHORS)(epoch) == pytest.approx(lr, abs=tolerance, rel=0)


@pytest.mark.parametrize(
    ("peak", "epochs", "warmup", "cooldown"),
    [(PEAK, EPOCHS, 5, COOLDOWN), (1e-3, 300, 5, 10), (4e-3, 60, 15, 0), (1e-3, 20, 0, 3), (1e-3, 1, 5, 10)],
)
def test_every_epoch_has_the_rate_of_timms_scheduler(peak, epochs, warmup, cooldown):
    schedule = Schedule(peak_lr=peak, epochs=epochs, warmup_epochs=warmup, warmup_lr=1e-6, min_lr=1e-5)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=peak)
    timms = CosineLRScheduler(optimizer, t_initial=epochs, lr_min=1e-5, warmup_t=warmup, warmup_lr_init=1e-6)
    for epoch in range(epochs + cooldown):
        timms.step(epoch)  # as train.py does it, before each epoch
        assert schedule(epoch) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12), epoch


def test_the_optimiser_gets_the_rate_of_each_epoch_in_both_groups():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.05), lr=PEAK)
    schedule = Schedule(**AUTHORS)
    scheduler = EpochScheduler(optimizer, schedule)
    for epoch in range(EPOCHS + COOLDOWN):
        rates = [group["lr"] for group in optimizer.param_groups]
        assert rates == pytest.approx([schedule(epoch)] * 2, rel=1e-12), epoch
        optimizer.step()
        scheduler.step()


def test_a_rate_of_steps_is_that_of_the_part_of_the_epoch_wherever_a_run_goes_on():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule = Schedule(peak_lr=PEAK, epochs=10, warmup_epochs=2, warmup_lr=0.0, min_lr=0.0)
    places = iter([1 / 7, 2 / 7, 3.5])
    scheduler = EpochScheduler(optimizer, schedule, lambda: next(places))
    assert optimizer.param_groups[0]["lr"] == 0
    for place in (1 / 7, 2 / 7, 3.5):
        optimizer.step(), scheduler.step()
        assert optimizer.param_groups[0]["lr"] == schedule(place)
    for progress, then in ((lambda: 3.75, 3.75), (None, 4)):
        other = EpochScheduler(optimizer, schedule, progress)
        other.load_state_dict(scheduler.state_dict())
        assert optimizer.param_groups[0]["lr"] == schedule(3.5)
        optimizer.step(), other.step()
        assert optimizer.param_groups[0]["lr"] == schedule(then)


# ---- linear scaling


@pytest.mark.parametrize(
    ("effective", "reference", "expected"),
    [(4096, 1024, 4e-3), (1024, 1024, 1e-3), (128, 1024, 1.25e-4), (96, 64, 1.5e-3), (7, None, 1e-3)],
)
def test_the_rate_grows_linearly_with_the_images_of_a_step(effective, reference, expected):
    """README of sail-sg/poolformer: lr = batch size / 1024 * 1e-3; 4096 images make the paper's 4e-3."""
    scaled = scaled_lr(1e-3, effective_batch_size=effective, reference_batch_size=reference)
    assert scaled == pytest.approx(expected, rel=1e-12)


# ---- parameter groups


def test_weights_decay_and_one_dimensional_parameters_do_not():
    """The counts of timm's create_optimizer_v2, which train.py calls, on the authors' S12."""
    with torch.device("meta"):
        model = create_backbone("poolformer_s12")
    decay, no_decay = parameter_groups(model, 0.05)
    assert (decay["name"], decay["weight_decay"]) == ("decay", 0.05)
    assert (no_decay["name"], no_decay["weight_decay"]) == ("no_decay", 0.0)
    assert (len(decay["params"]), sum(p.numel() for p in decay["params"])) == (29, 11_875_520)
    assert (len(no_decay["params"]), sum(p.numel() for p in no_decay["params"])) == (103, 39_656)


def test_a_frozen_parameter_is_in_no_group():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    decay, no_decay = parameter_groups(model, 0.05)
    assert [id(p) for p in decay["params"]] == [id(model[1].weight)]
    assert [id(p) for p in no_decay["params"]] == [id(model[1].bias)]


def test_a_scalar_does_not_decay():
    model = nn.ParameterList([torch.tensor(1.0), torch.ones(2, 2)])
    decay, no_decay = parameter_groups(model, 0.05)
    assert [p.ndim for p in decay["params"]] == [2]
    assert [p.ndim for p in no_decay["params"]] == [0]


# ---- soft targets


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("num_classes", [1, 2, 5, 1000])
def test_smooth_targets_are_timms(smoothing, num_classes):
    labels = torch.randint(num_classes, (6,))
    targets = smooth_targets(labels, num_classes, smoothing)
    assert targets.dtype == torch.float32
    torch.testing.assert_close(targets, mixup_target(labels, num_classes, smoothing=smoothing))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_smooth_targets_is_pytorchs_with_label_smoothing(smoothing):
    logits, labels = torch.randn(6, 5), torch.randint(5, (6,))
    loss = F.cross_entropy(logits, smooth_targets(labels, 5, smoothing))
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, label_smoothing=smoothing))


def test_the_loss_of_soft_targets_is_timms():
    logits, targets = torch.randn(6, 5), torch.rand(6, 5)
    targets /= targets.sum(1, keepdim=True)
    torch.testing.assert_close(F.cross_entropy(logits, targets), SoftTargetCrossEntropy()(logits, targets))


# ---- batches

AUTHORS_MIXING = {"mixup": 0.8, "cutmix": 1.0, "label_smoothing": 0.1, "erase_prob": 0.25}
OFF = dict.fromkeys(AUTHORS_MIXING, 0.0)


@pytest.mark.parametrize(
    "options",
    [
        AUTHORS_MIXING | {"erase_prob": 0.0},
        AUTHORS_MIXING | {"erase_prob": 0.0, "mixup": 0.0},
        AUTHORS_MIXING | {"erase_prob": 0.0, "cutmix": 0.0},
        AUTHORS_MIXING | {"erase_prob": 0.0, "label_smoothing": 0.0},
        OFF | {"erase_prob": 0.25, "label_smoothing": 0.1},
        AUTHORS_MIXING,
    ],
)
def test_a_batch_is_mixed_and_erased_as_timm_does_it(options):
    """With the arguments and the order of sail-sg/poolformer's train.py; in six batches both mixings occur."""
    augment = BatchAugmentation(num_classes=5, **options)
    parts = [StepPart(8, seed=1, step=step) for step in range(6)]
    ours = [augment(*a_batch(), part) for part in parts]

    erase = RandomErasing(1.0, mode="pixel", max_count=1, num_splits=0, device="cpu")
    mix = Mixup(
        mixup_alpha=options["mixup"],
        cutmix_alpha=options["cutmix"],
        cutmix_minmax=None,
        prob=1.0,
        switch_prob=0.5,
        mode="batch",
        label_smoothing=options["label_smoothing"],
        num_classes=5,
    )
    for part, (images, targets) in zip(parts, ours, strict=True):
        expected, labels = a_batch()
        if options["mixup"] or options["cutmix"]:
            np.random.seed(part.key("mix", 0))
            expected, expected_targets = mix(expected, labels)
        else:
            expected_targets = mixup_target(labels, 5, smoothing=options["label_smoothing"])
        if options["erase_prob"]:
            np.random.seed(part.key("erase"))
            chosen, seeds = np.random.random_sample(8) < 0.25, np.random.randint(2**32, size=8, dtype=np.uint32)
            for place in np.flatnonzero(chosen).tolist():
                seed_all(int(seeds[place]))
                erase(expected[place])
        torch.testing.assert_close(images, expected, rtol=0, atol=0)
        torch.testing.assert_close(targets, expected_targets)


@pytest.mark.parametrize("options", [AUTHORS_MIXING, AUTHORS_MIXING | {"mixup": 0.0}, OFF | {"label_smoothing": 0.1}])
def test_soft_targets_are_mixed_in_the_shares_that_the_images_are(options):
    """Those of the labels are mixed to what the labels are mixed to, and the images are the same."""
    augment = BatchAugmentation(num_classes=5, **options)
    for step in range(4):
        part = StepPart(8, micro_batch=1, micro_batches=40, seed=1, step=step)
        images, labels = a_batch()
        soft = smooth_targets(labels, 5, 0.1)
        expected_images, expected = augment(images, labels, part)
        images, targets = augment(a_batch()[0], soft, part)
        torch.testing.assert_close(images, expected_images, rtol=0, atol=0)
        torch.testing.assert_close(targets, expected)


def test_a_batch_of_any_place_in_a_step_draws_what_one_batch_of_the_whole_step_draws():
    augment = BatchAugmentation(num_classes=5, **AUTHORS_MIXING)
    images, labels = a_batch(512)

    def step(units: int) -> tuple[torch.Tensor, torch.Tensor]:
        whole = torch.empty_like(images), torch.empty(512, 5)
        for unit in range(units):
            part = StepPart(512 // units, unit, units, seed=1, step=7)
            for all_of_it, mine in zip(whole, augment(images[part.places], labels[part.places], part), strict=True):
                all_of_it[part.places] = mine
        return whole

    for units in (2, 4, 16):
        torch.testing.assert_close(step(units), step(1), rtol=0, atol=0)


@pytest.mark.parametrize(("size", "draws"), [(512, 4), (960, 8), (1000, 10), (254, 1)])
def test_about_128_images_share_a_draw_of_mixup(size, draws):
    """As those of a process of the authors' do."""
    augment = BatchAugmentation(num_classes=5, **OFF | {"mixup": 0.8})
    _, targets = augment(torch.zeros(size, 3, 4, 4), torch.arange(size) % 5, StepPart(size))
    largest = targets.max(1).values
    assert len(largest[largest < 1].unique()) == draws


def test_draws_of_their_own_leave_pythons_generator_where_one_draw_does():
    random.seed(5)
    random.getrandbits(32)
    expected = random.random()
    random.seed(5)
    BatchAugmentation(num_classes=5, **AUTHORS_MIXING)(*a_batch())
    assert random.random() == expected


@pytest.mark.slow
def test_a_fair_coin_chooses_between_mixup_and_cutmix():
    """CutMix leaves pixels as they are; mixup blends each of them."""
    augment = BatchAugmentation(num_classes=5, **AUTHORS_MIXING | {"erase_prob": 0.0})
    reseed()
    cut = sum(torch.isin(augment(*a_batch())[0], a_batch()[0]).all().item() for _ in range(200))
    assert 70 < cut < 130  # four standard deviations and a little


def test_random_erasing_takes_a_quarter_of_the_images():
    augment = BatchAugmentation(num_classes=5, **OFF | {"erase_prob": 0.25})
    reseed()
    images, _ = a_batch(400)
    erased, _ = augment(images.clone(), torch.zeros(400, dtype=torch.int64))
    taken = (erased != images).flatten(1).any(1).sum().item()
    assert 65 < taken < 135


@pytest.mark.parametrize("options", [AUTHORS_MIXING, OFF | {"label_smoothing": 0.1}, OFF])
def test_targets_sum_to_one_and_have_a_row_for_each_image(options):
    reseed()
    images, targets = BatchAugmentation(num_classes=5, **options)(*a_batch())
    assert images.shape == (8, 3, 16, 16)
    assert targets.shape == (8, 5)
    assert targets.min() >= 0
    torch.testing.assert_close(targets.sum(1), torch.ones(8))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("size", [7, 8])
def test_all_off_leaves_the_images_and_smooths_the_labels(size, smoothing):
    images, labels = a_batch(size)
    same, targets = BatchAugmentation(num_classes=5, **OFF | {"label_smoothing": smoothing})(images.clone(), labels)
    torch.testing.assert_close(same, images, rtol=0, atol=0)
    torch.testing.assert_close(targets, F.one_hot(labels, 5) * (1 - smoothing) + smoothing / 5)


@pytest.mark.parametrize(
    ("options", "mixes"),
    [
        (OFF, False),
        (OFF | {"erase_prob": 0.25}, False),
        (OFF | {"mixup": 0.8}, True),
        (OFF | {"cutmix": 1.0}, True),
    ],
)
def test_it_says_whether_a_target_is_more_than_the_images_own_label(options, mixes):
    augment = BatchAugmentation(num_classes=5, **options)
    assert augment.mixes is mixes
    reseed()
    supports = [(augment(*a_batch())[1] > 0).sum(1) for _ in range(6)]
    assert any((support == 2).any() for support in supports) is mixes


@pytest.mark.parametrize("options", [OFF | {"mixup": 0.8}, OFF | {"cutmix": 1.0}])
def test_an_odd_batch_is_refused_where_images_are_paired(options):
    with pytest.raises(ConfigError) as caught:
        BatchAugmentation(num_classes=5, **options)(*a_batch(7))
    assert str(caught.value) == (
        "mixup and CutMix pair up the images of a batch, and this one has 7: choose an even "
        "--data.batch_size, or turn both off with --model.mixup 0 --model.cutmix 0"
    )
