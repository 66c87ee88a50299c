"""Training and evaluation with a real trainer: batches, metrics, learning rate, checkpoints."""

import re
from functools import partialmethod
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset
from torchvision.transforms.functional import normalize

from poolformer import __version__
from poolformer.checkpoint.record import RECORD
from poolformer.classifier import IMAGENET_MEAN, IMAGENET_STD, ImageClassifier
from poolformer.data import DigitsData, FolderData
from poolformer.errors import ConfigError, OptionsError
from poolformer.network.metaformer import Block
from poolformer.network.recomputing import recompute
from poolformer.recipe import Schedule
from poolformer.registry import DISTRIBUTION
from poolformer.run.machine import fuse_blocks

UNMIXED = {"mixup": 0.0, "cutmix": 0.0, "label_smoothing": 0.0, "erase_prob": 0.0}
CONSTANT = {"warmup_epochs": 0, "cooldown_epochs": 0}


def tiny(num_classes: int = 10, **options: Any) -> ImageClassifier:
    return ImageClassifier("poolformer_tiny", num_classes, **{"image_size": 8, **CONSTANT, **options})


def quiet_trainer(**options: Any) -> pl.Trainer:
    silence = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    short = {"max_epochs": 1, "limit_train_batches": 1, "limit_val_batches": 1, "num_sanity_val_steps": 0}
    return pl.Trainer(**{"accelerator": "cpu", "enable_checkpointing": False, **silence, **short, **options})


class Batches(Callback):
    """Keeps the batches that the steps are given."""

    def __init__(self):
        self.train, self.val = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.train.append([tensor.clone() for tensor in batch])

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
        self.val.append([tensor.clone() for tensor in batch])


class Rates(Callback):
    """Keeps the learning rates of each epoch."""

    def __init__(self):
        self.seen = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.seen.append([group["lr"] for group in trainer.optimizers[0].param_groups])


# ---- batches


@pytest.mark.parametrize(("mean", "std"), [(IMAGENET_MEAN, IMAGENET_STD), ((0.5, 0.4, 0.3), (0.1, 0.2, 0.3))])
def test_batches_are_normalised_by_mean_and_standard_deviation(mean, std):
    images, labels = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8), torch.arange(4)
    loader = DataLoader(TensorDataset(images, labels), batch_size=4)
    batches = Batches()
    trainer = quiet_trainer(callbacks=[batches])
    with pytest.warns(UserWarning, match="no batch_size"):
        trainer.fit(tiny(mean=mean, std=std, **UNMIXED), loader, loader)
    expected = normalize(images / 255, mean, std)  # torchvision's, on pixels in [0, 1]
    for seen, _ in (*batches.train, *batches.val):
        torch.testing.assert_close(seen, expected)


def test_training_gets_soft_targets_and_evaluation_labels():
    batches = Batches()
    quiet_trainer(callbacks=[batches]).fit(tiny(), datamodule=DigitsData(batch_size=6))
    ((images, targets),) = batches.train
    assert (images.shape, images.dtype) == ((6, 3, 8, 8), torch.float32)
    assert (targets.shape, targets.dtype) == ((6, 10), torch.float32)
    torch.testing.assert_close(targets.sum(1), torch.ones(6))
    ((images, labels),) = batches.val
    assert (images.shape, images.dtype) == ((6, 3, 8, 8), torch.float32)
    assert (labels.shape, labels.dtype) == ((6,), torch.int64)


@pytest.mark.parametrize("backbone", ["poolformer_tiny", "timm/resnet10t"])
def test_every_map_of_training_is_channels_last(backbone):
    """Mixing and erasing included; on a map of one pixel both layouts are the same."""
    model, maps = ImageClassifier(backbone, 10, image_size=32, **CONSTANT), {}

    def keep(name: str, output: torch.Tensor) -> None:
        if output.ndim == 4 and output.shape[-1] > 1:
            maps[name] = output.is_contiguous(memory_format=torch.channels_last)

    for name, layer in model.backbone.named_modules():
        layer.register_forward_hook(lambda layer, inputs, output, name=name: keep(name, output))
    quiet_trainer().fit(model, datamodule=DigitsData(batch_size=6, image_size=32))
    assert len(maps) > 10
    assert all(maps.values()), [name for name, fits in maps.items() if not fits]


def test_an_odd_batch_size_is_refused_where_images_are_paired():
    with pytest.raises(ConfigError, match=r"this one has 7: choose an even --data\.batch_size"):
        quiet_trainer().fit(tiny(), datamodule=DigitsData(batch_size=7))


def test_the_training_loss_is_the_one_of_the_soft_targets():
    batches, model = Batches(), tiny(drop_path_rate=0.0)
    trainer = quiet_trainer(callbacks=[batches])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trainer.fit(model, datamodule=DigitsData(batch_size=6))
    model.load_state_dict(before)
    ((images, targets),) = batches.train
    by_hand = -(targets * model.eval()(images).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(trainer.callback_metrics["train/loss"], by_hand.detach())


@pytest.mark.parametrize(("options", "logged"), [(UNMIXED, True), ({}, False)])
def test_training_accuracy_is_logged_only_where_an_image_has_one_label(options, logged):
    trainer = quiet_trainer()
    trainer.fit(tiny(**options), datamodule=DigitsData(batch_size=6))
    assert ("train/top1" in trainer.callback_metrics) is logged


# ---- metrics


@pytest.mark.parametrize(("verb", "split"), [("validate", "val"), ("test", "test")])
@pytest.mark.parametrize("num_classes", [3, 5, 10])
def test_metrics_are_those_of_all_images_together_whatever_the_batches(verb, split, num_classes):
    """Ten images in batches of 4, 4 and 2: a mean over batches would weigh the last two too much."""
    images, labels = torch.randint(256, (10, 3, 8, 8), dtype=torch.uint8), torch.randint(num_classes, (10,))
    model = tiny(num_classes)
    nn.init.normal_(model.backbone.head.fc.weight, std=2)  # far from even, so that no two losses are alike
    loader = DataLoader(TensorDataset(images, labels), batch_size=4)
    trainer = quiet_trainer(limit_val_batches=1.0)
    (metrics,) = getattr(trainer, verb)(model, loader, verbose=False)

    with torch.no_grad():
        logits = model.eval()(normalize(images / 255, IMAGENET_MEAN, IMAGENET_STD))
    losses = -logits.log_softmax(1)[torch.arange(10), labels]
    order = logits.argsort(1, descending=True)
    by_hand = {
        f"{split}/images": 10,
        f"{split}/loss": losses.mean().item(),
        f"{split}/top1": (order[:, 0] == labels).float().mean().item(),
        f"{split}/top5": (order[:, :5] == labels[:, None]).any(1).float().mean().item(),
    }
    assert metrics == pytest.approx(by_hand, rel=1e-5)
    by_batch = torch.stack([part.mean() for part in losses.split(4)]).mean().item()
    assert by_batch != pytest.approx(by_hand[f"{split}/loss"], rel=1e-3)  # the images do tell the two apart


@pytest.mark.parametrize("num_classes", [1, 2, 4])
def test_top5_of_fewer_than_five_classes_is_always_right(num_classes):
    images, labels = torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8), torch.randint(num_classes, (6,))
    loader = DataLoader(TensorDataset(images, labels), batch_size=4)
    (metrics,) = quiet_trainer(limit_val_batches=1.0).validate(tiny(num_classes), loader, verbose=False)
    assert metrics["val/top5"] == 1


def test_a_second_evaluation_starts_from_nothing():
    model, data = tiny(), DigitsData(batch_size=64)
    first, second = (quiet_trainer(limit_val_batches=2).validate(model, data, verbose=False) for _ in range(2))
    assert first == second


# ---- prediction


def test_predictions_are_probabilities_of_every_image_in_order():
    model, data = tiny(), DigitsData(batch_size=100)
    parts = quiet_trainer().predict(model, datamodule=data)
    probabilities = torch.cat(parts)
    assert [len(part) for part in parts] == [100, 100, 100, 60]
    torch.testing.assert_close(probabilities.sum(1), torch.ones(360))
    with torch.no_grad():
        logits = torch.cat(
            [model(normalize(images / 255, IMAGENET_MEAN, IMAGENET_STD)) for images, _ in data.val_dataloader()]
        )
    torch.testing.assert_close(probabilities, logits.softmax(1))


# ---- learning rate


@pytest.mark.parametrize(
    ("options", "batch_size", "accumulated", "peak", "message"),
    [
        (
            {"lr": 1e-3},
            64,
            1,
            1e-3 * 64 / 1024,
            "Learning rate 6.25e-05: 0.001 for 1024 images a step, and a step has 64 "
            "(64 a device x 1 devices x 1 accumulated)",
        ),
        (
            {"lr": 1e-3},
            128,
            8,
            1e-3,
            "Learning rate 0.001: 0.001 for 1024 images a step, and a step has 1024 "
            "(128 a device x 1 devices x 8 accumulated)",
        ),
        (
            {"lr": 6e-3, "lr_batch_size": 64},
            32,
            3,
            9e-3,
            "Learning rate 0.009: 0.006 for 64 images a step, and a step has 96 "
            "(32 a device x 1 devices x 3 accumulated)",
        ),
        (
            {"lr": 2e-3, "lr_batch_size": None},
            32,
            3,
            2e-3,
            "Learning rate 0.002: 0.002 for any number of images a step, and a step has 96 "
            "(32 a device x 1 devices x 3 accumulated)",
        ),
    ],
)
def test_the_rate_is_scaled_by_the_images_of_a_step(options, batch_size, accumulated, peak, message, lightnings_log):
    trainer = quiet_trainer(accumulate_grad_batches=accumulated)
    trainer.fit(tiny(**options), datamodule=DigitsData(batch_size=batch_size))
    groups = {group["name"]: group for group in trainer.optimizers[0].param_groups}
    assert groups.keys() == {"decay", "no_decay"}
    assert [group["initial_lr"] for group in groups.values()] == pytest.approx([peak] * 2, rel=1e-12)
    assert message in lightnings_log.messages


def test_the_optimiser_is_the_papers():
    """arXiv 2111.11418, section 4.1: AdamW with weight decay 0.05; its betas and eps are PyTorch's."""
    trainer = quiet_trainer()
    trainer.fit(tiny(), datamodule=DigitsData(batch_size=6))
    (optimizer,) = trainer.optimizers
    assert type(optimizer) is torch.optim.AdamW
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0]
    assert {(*group["betas"], group["eps"]) for group in optimizer.param_groups} == {(0.9, 0.999, 1e-8)}


def test_each_epoch_of_a_run_has_the_rate_of_the_schedule():
    rates = Rates()
    model = tiny(lr=1e-3, lr_batch_size=None, warmup_epochs=2, cooldown_epochs=3)
    quiet_trainer(callbacks=[rates], max_epochs=9).fit(model, datamodule=DigitsData(batch_size=6))
    schedule = Schedule(peak_lr=1e-3, epochs=6, warmup_epochs=2, warmup_lr=1e-6, min_lr=1e-5)
    assert rates.seen == [pytest.approx([schedule(epoch)] * 2, rel=1e-9) for epoch in range(9)]


class RatesOfSteps(Callback):
    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, *_):
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch or (trainer.fit_loop.batch_idx + 1) % 2 == 0:
            self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])  # of the next step


@pytest.mark.slow
def test_each_step_of_a_run_has_the_rate_of_its_part_of_an_epoch():
    rates = RatesOfSteps()
    model = tiny(lr=1e-3, lr_batch_size=None, warmup_epochs=2, cooldown_epochs=1, lr_interval="step")
    trainer = quiet_trainer(callbacks=[rates], max_epochs=4, limit_train_batches=5, accumulate_grad_batches=2)
    trainer.fit(model, datamodule=DigitsData(batch_size=6))
    schedule = Schedule(peak_lr=1e-3, epochs=3, warmup_epochs=2, warmup_lr=1e-6, min_lr=1e-5)
    assert trainer.global_step == 12  # of two batches, two and one
    places = [epoch + batches / 5 for epoch in range(4) for batches in (2, 4, 5)]
    assert rates.seen == pytest.approx([schedule(place) for place in places], rel=1e-9)


@pytest.mark.filterwarnings("ignore:the data module has no batch_size")
def test_data_without_an_end_has_no_part_of_an_epoch():
    class Endless(IterableDataset):
        def __iter__(self):
            while True:
                yield torch.zeros(3, 8, 8, dtype=torch.uint8), 0

    loader = DataLoader(Endless(), batch_size=4)
    with (
        pytest.warns(UserWarning, match="no batch_size"),
        pytest.raises(ConfigError, match="how many batches an epoch"),
    ):
        quiet_trainer(limit_train_batches=None).fit(tiny(lr_interval="step"), loader, loader)


def test_without_a_batch_size_the_rate_is_used_as_it_is_and_said_so():
    images, labels = torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.arange(4)
    loader = DataLoader(TensorDataset(images, labels), batch_size=4)
    trainer = quiet_trainer()
    with pytest.warns(UserWarning, match=re.escape("the data module has no batch_size, so lr=0.002 is used as it is")):
        trainer.fit(tiny(lr=2e-3), loader, loader)
    assert trainer.optimizers[0].param_groups[0]["initial_lr"] == 2e-3


@pytest.mark.parametrize("length", [{"max_epochs": -1}, {"max_epochs": -1, "max_steps": 2}])
def test_a_run_without_an_end_is_refused(length):
    with pytest.raises(ConfigError, match=r"the cosine needs an end: set --trainer\.max_epochs"):
        quiet_trainer(**length).fit(tiny(), datamodule=DigitsData(batch_size=6))


def test_a_run_too_short_for_a_cosine_says_so_and_warms_up():
    rates = Rates()
    model = tiny(lr=1e-3, lr_batch_size=None, warmup_epochs=5, cooldown_epochs=10)
    message = (
        "of 3 epochs, 5 are warm-up and 10 cool-down, so none is left for the cosine; "
        "see --model.warmup_epochs and --model.cooldown_epochs"
    )
    with pytest.warns(UserWarning, match=re.escape(message)):
        quiet_trainer(callbacks=[rates], max_epochs=3).fit(model, datamodule=DigitsData(batch_size=6))
    assert [rate for rate, _ in rates.seen] == pytest.approx([1e-6, 2.008e-4, 4.006e-4])


# ---- classes


@pytest.mark.slow
def test_a_compiled_backbone_trains_like_another_and_keeps_its_names(monkeypatch):
    # The graph and its gradients without the C++ compiler, which takes a minute.
    monkeypatch.setattr(nn.Module, "compile", partialmethod(nn.Module.compile, backend="aot_eager"))
    plain, compiled = tiny(**UNMIXED), tiny(compile=True, **UNMIXED)
    compiled.backbone.load_state_dict(plain.backbone.state_dict())
    torch._dynamo.utils.counters.clear()
    for model in (plain, compiled):
        assert not torch._dynamo.utils.counters["stats"]
        quiet_trainer().fit(model, datamodule=DigitsData(batch_size=6))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    ours, theirs = plain.state_dict(), compiled.state_dict()
    assert list(ours) == list(theirs)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("types", "precision"), [([], "32-true"), ([torch.float32], "bf16-mixed")], ids=["no compiler", "no bf16"]
)
def test_fused_operators_stay_separate_on_a_cpu_that_has_none_for_the_precision(monkeypatch, types, precision):
    monkeypatch.setattr("poolformer.kernels.cpu.load", lambda: frozenset(types))
    model = tiny(fused=True)
    with pytest.warns(UserWarning, match=f"on this cpu, in {precision}, the blocks stay as they are"):
        quiet_trainer(precision=precision).fit(model, datamodule=DigitsData(batch_size=6))
    assert not any(any(getattr(layer, "execution", None) or ()) for layer in model.modules())


def test_on_a_gpu_without_triton_fused_operators_stay_separate(monkeypatch):
    monkeypatch.setattr("poolformer.network.fused.has_triton", lambda: False)
    model = tiny(fused=True)
    with pytest.warns(UserWarning, match=r"needs Triton on a GPU.*: on this cuda, in bf16-mixed, the blocks stay"):
        fuse_blocks(model.backbone, device=torch.device("cuda"), precision="bf16-mixed")
    assert not any(any(getattr(layer, "execution", None) or ()) for layer in model.modules())


def test_fused_operators_train_the_same_network_on_a_cpu(cpp):
    plain, fused = tiny(**UNMIXED), tiny(fused=True, **UNMIXED)
    fused.backbone.load_state_dict(plain.backbone.state_dict())
    for model in (plain, fused):
        quiet_trainer().fit(model, datamodule=DigitsData(batch_size=6))
    assert all(layer.execution.mix_channels for layer in fused.modules() if isinstance(layer, Block))
    for (name, ours), theirs in zip(fused.state_dict().items(), plain.state_dict().values(), strict=True):
        if not name.endswith("norm1.bias"):  # without a gradient but for rounding
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5, msg=name)


def test_a_backbone_without_fused_operators_is_said(monkeypatch):
    monkeypatch.setattr("poolformer.run.machine.fusing_pays", lambda device, dtype: True)
    with pytest.warns(UserWarning, match="--model.fused changes nothing"):
        fuse_blocks(nn.Linear(2, 2), device=torch.device("cuda"), precision="32-true")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_fused_kernels_train_on_a_gpu():
    model = tiny(fused=True)
    quiet_trainer(accelerator="gpu", devices=1).fit(model, datamodule=DigitsData(batch_size=6))
    assert any(any(getattr(layer, "execution", None) or ()) for layer in model.modules())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("fused", [False, True], ids=["separate", "fused"])
def test_a_captured_backbone_trains_like_another_on_a_gpu(fused):
    """With a last batch that is smaller, and evaluated in between."""
    weights = []
    for graphs in (False, True):
        torch.manual_seed(0)
        model = tiny(drop_path_rate=0.2, fused=fused, cuda_graphs=graphs, **UNMIXED)
        short = {"limit_train_batches": 5, "limit_val_batches": 3, "max_epochs": 2, "precision": "32-true"}
        quiet_trainer(accelerator="gpu", devices=1, **short).fit(model, datamodule=DigitsData(batch_size=250))
        weights.append(model.state_dict())
    for name, ours in weights[1].items():
        if not name.endswith("norm1.bias"):  # before pooling its gradient is rounding, whose sign Adam follows
            torch.testing.assert_close(ours, weights[0][name], rtol=1e-2, atol=1e-3, msg=name)


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "side"), [("poolformer_tiny", 8), ("timm/vit_tiny_patch16_224", 16)])
def test_recomputing_trains_the_same_network(backbone, side):
    weights = []
    for again in (False, True):
        torch.manual_seed(0)
        model = ImageClassifier(backbone, 10, recompute=again, image_size=side, lr=0.01, lr_batch_size=None, **CONSTANT)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        quiet_trainer().fit(model, datamodule=DigitsData(batch_size=6, image_size=side))
        weights.append({name: tensor - before[name] for name, tensor in model.state_dict().items()})
    for name, moved in weights[0].items():
        if not name.endswith("norm1.bias"):  # before pooling its gradient is rounding, whose sign Adam follows
            # Where a gradient is nearly zero its sign may turn.
            share = (weights[1][name] - moved).abs().gt(0.002).double().mean()
            assert share < 0.01, name
    assert max(moved.abs().max() for moved in weights[0].values()) > 0.005


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"norm": "batch"}, "they would count each batch twice"),
        ({"backbone": "timm/resnet10t"}, "they would count each batch twice"),
        ({"backbone": "timm/vgg11"}, "cannot be recomputed: AssertionError"),
    ],
    ids=str,
)
def test_a_network_that_cannot_be_recomputed_is_refused(options, message):
    model = ImageClassifier(**{"backbone": "poolformer_tiny", "num_classes": 10, "image_size": 8, **options})
    with pytest.raises(OptionsError, match=message):
        recompute(model.backbone)


def test_a_machine_without_a_compiler_is_told_so_in_a_line(monkeypatch):
    def nothing_compiles(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", nothing_compiles)
    with pytest.raises(ConfigError, match=r"^--model\.compile: .*here: RuntimeError: No working C\+\+ compiler found$"):
        quiet_trainer().fit(tiny(compile=True), datamodule=DigitsData(batch_size=6))


def test_data_with_more_classes_than_the_model_is_refused():
    with pytest.raises(ConfigError) as caught:
        quiet_trainer().fit(tiny(7), datamodule=DigitsData(batch_size=6))
    assert str(caught.value) == "the data has 10 classes and the model 7: pass --model.num_classes 10"


def test_data_with_fewer_classes_than_the_model_warns():
    with pytest.warns(UserWarning, match=r"the data has 10 classes and the model 12: .*--model\.num_classes"):
        quiet_trainer().fit(tiny(12), datamodule=DigitsData(batch_size=6))


# ---- checkpoints


def trained(path: Path, model: ImageClassifier, **options: Any) -> ImageClassifier:
    trainer = quiet_trainer(**options)
    trainer.fit(model, datamodule=DigitsData(batch_size=6))
    trainer.save_checkpoint(path)
    return model


@pytest.fixture(scope="module")
def pooling(tmp_path_factory) -> Path:
    """A checkpoint of one step with pooling."""
    path = tmp_path_factory.mktemp("run") / "pooling.ckpt"
    trained(path, tiny())
    return path


def edited(path: Path, folder: Path, **record: Any) -> Path:
    """Return a copy of a checkpoint with another record, as another installation would have left it."""
    checkpoint = torch.load(path, weights_only=True)
    checkpoint[RECORD].update(record)
    torch.save(checkpoint, folder / "edited.ckpt")
    return folder / "edited.ckpt"


def test_a_checkpoint_says_what_its_weights_are(tmp_path):
    mixers = ["pooling", {"name": "pooling", "pool_size": 5}, "identity", "attention"]
    trained(tmp_path / "a.ckpt", tiny(mixer=mixers))
    here = f"{DISTRIBUTION} {__version__}"
    found = torch.load(tmp_path / "a.ckpt", weights_only=True)[RECORD]
    assert found.pop("frame")["mixer"] == mixers
    assert found == {
        "backbone": "poolformer_tiny",
        "backbone_origin": here,
        "mixers": {"pooling": here, "identity": here, "attention": here},
        "stages": [{"name": mixer} if isinstance(mixer, str) else mixer for mixer in mixers],
        "class_names": [str(digit) for digit in range(10)],
    }


def test_a_checkpoint_of_a_timm_model_has_no_mixers(tmp_path):
    model = ImageClassifier("timm/test_resnet", 10, image_size=8, **CONSTANT)
    trained(tmp_path / "a.ckpt", model)
    record = torch.load(tmp_path / "a.ckpt", weights_only=True)[RECORD]
    assert (record["backbone"], record["mixers"]) == ("timm/test_resnet", {})


@pytest.mark.parametrize(
    "mixer",
    ["identity", {"name": "pooling", "pool_size": 5}, ["pooling", "pooling", "identity", {"name": "attention"}]],
)
def test_hyper_parameters_are_plain_values(mixer):
    def check(value):
        assert type(value) in (str, int, float, bool, type(None), dict, list, tuple), value
        if isinstance(value, dict):
            check(list(value.keys()) + list(value.values()))
        elif isinstance(value, list | tuple):
            for one in value:
                check(one)

    hyper_parameters = dict(tiny(mixer=mixer).hparams)
    assert hyper_parameters["mixer"] == mixer
    check(hyper_parameters)


@pytest.mark.parametrize("options", [{}, {"weights_only": True}])
def test_load_from_checkpoint_gives_the_same_network(tmp_path, options):
    model = trained(tmp_path / "a.ckpt", tiny(mixer={"name": "pooling", "pool_size": 5}, lr=0.1, lr_batch_size=None))
    loaded = ImageClassifier.load_from_checkpoint(tmp_path / "a.ckpt", **options)
    assert loaded.hparams == model.hparams
    assert loaded.class_names == [str(digit) for digit in range(10)]
    images = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(loaded.eval()(images), model.eval()(images), rtol=0, atol=0)


def test_the_state_dict_is_the_backbones_alone(pooling):
    """Normalisation and metrics are no weights: published state dicts have no entries for them."""
    names = torch.load(pooling, weights_only=True)["state_dict"].keys()
    assert names == {f"backbone.{name}" for name in tiny().backbone.state_dict()}


def test_another_mixer_on_the_same_weights_warns(pooling):
    with pytest.warns(
        UserWarning, match=r"trained with token mixer 'pooling' \(poolformer-lightning .*\), not 'identity'"
    ):
        ImageClassifier.load_from_checkpoint(pooling, mixer="identity")


@pytest.mark.parametrize("mixer", [["pooling", "pooling", "pooling", "identity"], {"name": "pooling", "pool_size": 9}])
def test_another_mixer_in_one_stage_or_with_other_options_warns(pooling, mixer):
    with pytest.warns(UserWarning, match="trained with token mixer"):
        ImageClassifier.load_from_checkpoint(pooling, mixer=mixer)


def test_another_backbone_of_the_same_shape_warns(pooling, tmp_path):
    path = edited(pooling, tmp_path, backbone="poolformer_like_tiny")
    with pytest.warns(UserWarning, match="trained with backbone 'poolformer_like_tiny', not 'poolformer_tiny'"):
        ImageClassifier.load_from_checkpoint(path)


def test_the_same_mixer_of_another_version_warns(pooling, tmp_path):
    path = edited(pooling, tmp_path, mixers={"pooling": "poolformer 0.0.1"})
    with pytest.warns(
        UserWarning, match=r"token mixer 'pooling' of poolformer-lightning 0\.0\.1; here is poolformer-lightning "
    ):
        ImageClassifier.load_from_checkpoint(path)


def test_a_checkpoint_without_a_record_warns(pooling, tmp_path):
    checkpoint = torch.load(pooling, weights_only=True)
    del checkpoint[RECORD]
    torch.save(checkpoint, tmp_path / "foreign.ckpt")
    with pytest.warns(UserWarning, match="does not say which backbone and token mixer"):
        ImageClassifier.load_from_checkpoint(tmp_path / "foreign.ckpt")


@pytest.mark.slow
def test_a_resumed_run_goes_on_as_if_it_had_not_stopped(tmp_path):
    """Rates, weights and epochs; the images are shuffled anew, so the data is one batch of all."""
    images, labels = torch.randint(256, (8, 3, 8, 8), dtype=torch.uint8), torch.arange(8)
    options = {"lr": 1e-3, "lr_batch_size": None, "drop_path_rate": 0.0, **UNMIXED}
    loader = DataLoader(TensorDataset(images, labels), batch_size=8)

    def fit(model: ImageClassifier, *, stop: int | None = None, **kwargs: Any) -> pl.Trainer:
        trainer = quiet_trainer(callbacks=[rates := Rates()], max_epochs=4, max_steps=stop or -1)
        with pytest.warns(UserWarning, match="no batch_size"):
            trainer.fit(model, loader, loader, **kwargs)
        seen.append([rate for rate, _ in rates.seen])
        return trainer

    seen = []
    start = tiny(**options)
    whole, resumed = tiny(**options), tiny(**options)
    whole.load_state_dict(start.state_dict())
    fit(whole)
    fit(start, stop=2).save_checkpoint(tmp_path / "half.ckpt")
    fit(resumed, ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    assert seen[1] + seen[2] == pytest.approx(seen[0], rel=1e-12)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, msg=name)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the run is resumed with other options. lr 0.002 ")
@pytest.mark.parametrize(("lr", "epochs"), [(2e-3, 4), (1e-3, 8)], ids=["another rate", "more epochs"])
def test_a_resumed_run_has_the_rates_that_are_asked_for(tmp_path, lr, epochs):
    options = {"lr_batch_size": None, **UNMIXED}
    trainer = quiet_trainer(max_epochs=4, max_steps=2)
    trainer.fit(tiny(lr=1e-3, **options), datamodule=DigitsData(batch_size=6))
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    trainer = quiet_trainer(callbacks=[rates := Rates()], max_epochs=epochs)
    trainer.fit(tiny(lr=lr, **options), datamodule=DigitsData(batch_size=6), ckpt_path=tmp_path / "half.ckpt")
    schedule = Schedule(peak_lr=lr, epochs=epochs, warmup_epochs=0, warmup_lr=1e-6, min_lr=1e-5)
    assert [rate for rate, _ in rates.seen] == pytest.approx([schedule(epoch) for epoch in range(2, epochs)])


class Blend(nn.Identity):
    """A mixer that is handed over as a class, as from Python it may be."""

    def __init__(self, dim: int):
        super().__init__()


def test_a_mixer_handed_over_as_a_class_leaves_a_checkpoint_that_loads(tmp_path):
    trained(tmp_path / "a.ckpt", tiny(mixer=Blend))
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert saved["hyper_parameters"]["mixer"] == f"{Blend.__module__}:Blend"


# ---- learning


@pytest.mark.slow
def test_digits_are_learned_from_python():
    """Two epochs reach about 80 %; guessing is 10 %."""
    trainer = quiet_trainer(max_epochs=2, limit_train_batches=1.0, limit_val_batches=1.0)
    model = tiny(lr=6e-3, lr_batch_size=None, mean=(0.5,) * 3, std=(0.5,) * 3, **UNMIXED)
    trainer.fit(model, datamodule=DigitsData(batch_size=64))
    assert trainer.callback_metrics["val/top1"] > 0.6


@pytest.fixture
def other_classes(tmp_path) -> str:
    """Weights with a head for 7 classes."""
    file = tmp_path / "poolformer_tiny.pth"
    torch.save(tiny(7).backbone.state_dict(), file)
    return str(file)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*poolformer_tiny.pth")
def test_a_checkpoint_takes_the_place_of_published_weights_for_other_classes(tmp_path, other_classes):
    trainer, data = quiet_trainer(), DigitsData(batch_size=6)
    checkpoint = tmp_path / "run.ckpt"
    trainer.fit(tiny(), datamodule=data)
    trainer.save_checkpoint(checkpoint)
    for evaluate in (quiet_trainer().validate, quiet_trainer().test):
        model = tiny(pretrained=other_classes)
        evaluate(model, datamodule=data, ckpt_path=checkpoint, weights_only=True, verbose=False)
        assert torch.equal(model.backbone.head.fc.weight, trainer.model.backbone.head.fc.weight)
        assert model.class_names == data.class_names


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
@pytest.mark.filterwarnings("ignore:.*poolformer_tiny.pth")
def test_published_weights_for_other_classes_are_not_evaluated(other_classes, verb):
    with pytest.raises(ConfigError, match=r"is for 7 classes: pass --model\.num_classes 7"):
        getattr(quiet_trainer(), verb)(
            tiny(pretrained=other_classes),
            dataloaders=DataLoader(TensorDataset(torch.zeros(4, 3, 8, 8, dtype=torch.uint8))),
        )


def textured(folder: Path, *, classes: int, images: int) -> None:
    """Write JPEGs of 64 x 64 pixels, a colour and a stripe width for each class."""
    across = torch.arange(64)
    for label in range(classes):
        colour = torch.tensor([60 + 45 * (label & 1) * 4, 60 + 45 * (label >> 1 & 1) * 4, 60 + 45 * (label >> 2) * 4])
        (folder / f"class_{label}").mkdir(parents=True)
        for image in range(images):
            stripes = (across + image) // (label + 2) % 2 * 40 - 20
            pixels = colour[:, None, None] + stripes[None, None] + torch.randn(3, 64, 64) * 15
            pixels = pixels.expand(3, 64, 64).clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(folder / f"class_{label}" / f"{image}.jpg", quality=90)


@pytest.mark.exhaustive
def test_the_papers_smallest_network_learns_64_images_by_heart(tmp_path):
    textured(tmp_path, classes=8, images=8)
    data = FolderData(
        train=str(tmp_path),
        val=str(tmp_path),  # what was trained on
        batch_size=16,
        image_size=64,
        auto_augment=None,
        num_workers=0,
    )
    model = ImageClassifier(
        "poolformer_s12",
        8,
        image_size=64,
        layer_scale_init=1.0,
        drop_path_rate=0.0,
        lr=1e-3,
        lr_batch_size=None,
        warmup_epochs=2,
        cooldown_epochs=1,
        **UNMIXED,
    )
    trainer = quiet_trainer(max_epochs=15, limit_train_batches=1.0, limit_val_batches=1.0, check_val_every_n_epoch=15)
    trainer.fit(model, datamodule=data)
    assert trainer.callback_metrics["val/top1"] == 1
