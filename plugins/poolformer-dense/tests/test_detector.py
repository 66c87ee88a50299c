"""RetinaNet's training: its losses, its metric, its schedule, its pictures and its command line."""

import re

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from poolformer_dense.boxes import BoxModule, ShapesBoxes
from poolformer_dense.command import detect, segment
from poolformer_dense.detector import Detector

from poolformer.errors import DataError

TINY = {
    "backbone": "poolformer_tiny",
    "num_classes": 3,
    "channels": 16,
    "anchor_size": 8,
    "min_size": 32,
    "max_size": 48,
}


@pytest.fixture
def detector():
    torch.manual_seed(0)
    found = Detector(**TINY)
    found.log_dict = lambda *args, **kwargs: None
    return found


def target(boxes, labels, crowds=None):
    crowds = [0] * len(labels) if crowds is None else crowds
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels).long(),
        "iscrowd": torch.tensor(crowds).long(),
    }


def test_a_step_takes_images_of_any_sizes_with_and_without_boxes(detector):
    images = [torch.zeros(3, 20, 40, dtype=torch.uint8), torch.zeros(3, 32, 32, dtype=torch.uint8)]
    loss = detector.training_step((images, [target([[2, 2, 12, 12]], [2]), target([], [])]), 0)
    loss.backward()
    assert loss.isfinite()
    assert [name for name, p in detector.named_parameters() if p.grad is None] == []


def test_crowds_have_no_part_in_the_loss(detector):
    images, box = [torch.zeros(3, 32, 32, dtype=torch.uint8)], [2, 2, 12, 12]
    alone = detector.training_step((images, [target([box], [1])]), 0)
    assert detector.training_step((images, [target([box, [9, 9, 30, 30]], [1, 0], [0, 1])]), 0) == alone
    assert detector.training_step((images, [target([box, [9, 9, 30, 30]], [1, 0])]), 0) != alone


def test_what_is_found_is_said_in_pixels_of_the_image_and_at_most_100_times(detector):
    detector.network.score_thresh = 0.0
    (found,) = detector.eval()([torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8)])
    assert len(found["boxes"]) == 100
    assert (found["boxes"] >= 0).all()
    assert (found["boxes"] <= torch.tensor([96, 64, 96, 64])).all()
    assert found["boxes"][:, 2].max() > 48  # which is what the network saw


@pytest.mark.parametrize("mixer", ["random_matrix", "spatial_fc"])
def test_mixers_that_depend_on_the_number_of_tokens_see_images_of_one_size(mixer):
    detector = Detector(**{**TINY, "mixer": mixer, "image_size": 32}).eval()
    assert len(detector([torch.zeros(3, 20, 50, dtype=torch.uint8), torch.zeros(3, 64, 64, dtype=torch.uint8)])) == 2


def test_mixed_precision_leaves_boxes_scores_and_losses_exact(detector):
    images = [torch.randint(0, 256, (3, 32, 48), dtype=torch.uint8)]
    detector.network.score_thresh = 0.0
    seen = []
    generate = detector.network.anchor_generator.forward
    detector.network.anchor_generator.forward = lambda *args: seen.append(generate(*args)) or seen[-1]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = detector.network(detector._scaled(images), [target([[2, 2, 12, 12]], [2])])
        (found,) = detector.eval()(images)
    assert {name: loss.dtype for name, loss in losses.items()} == dict.fromkeys(losses, torch.float32)
    assert (found["boxes"].dtype, found["scores"].dtype) == (torch.float32, torch.float32)
    assert {each.dtype for anchors in seen for each in anchors} == {torch.float32}


def test_an_image_too_long_to_be_resized_is_told(detector):
    strip = torch.zeros(3, 1, 500, dtype=torch.uint8)
    with pytest.raises(DataError, match=r"an image of 500 x 1 pixels is too long .* --model.max_size 48"):
        detector.eval()([strip])
    with pytest.raises(DataError, match="500 x 1"):
        detector.training_step(([strip], [target([[2, 0, 12, 1]], [2])]), 0)
    assert len(detector([torch.zeros(3, 1, 47, dtype=torch.uint8)])) == 1  # one pixel high
    assert len(Detector(**{**TINY, "image_size": 32}).eval()([strip])) == 1


class Fixed(BoxModule):
    """One image with an object, one with none, and a crowd."""

    def __init__(self):
        super().__init__(batch_size=3, num_workers=0)

    def val_set(self):
        image = torch.zeros(3, 32, 32, dtype=torch.uint8)
        truth = [target([[4, 4, 20, 20]], [1]), target([], []), target([[0, 0, 30, 30]], [2], [1])]
        return [(image, each) for each in truth]


def validated(detector, found, tmp_path):
    detector.forward = lambda images: found
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", default_root_dir=tmp_path, **options)
    return trainer.validate(detector, Fixed(), verbose=False)[0]


def said(boxes, labels, scores):
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(labels).long(),
        "scores": torch.tensor(scores, dtype=torch.float32),
    }


@pytest.mark.filterwarnings("ignore")  # of Lightning, for so short a run
@pytest.mark.parametrize(
    ("boxes", "labels", "scores", "map50", "map_"),
    [
        ([[4, 4, 20, 20]], [1], [0.9], 1.0, 1.0),
        ([[4, 4, 20, 20]], [0], [0.9], 0.0, 0.0),
        ([[4, 4, 20, 14]], [1], [0.9], 1.0, 0.3),  # IoU 10 / 16: right at .5, .55 and .6 of ten thresholds
        ([], [], [], 0.0, 0.0),
        ([[0, 20, 9, 30], [4, 4, 20, 20]], [1, 1], [0.9, 0.8], 0.5, 0.5),  # one wrong before it
    ],
    ids=["right", "class", "box", "none", "second"],
)
def test_the_metric_is_cocos(tmp_path, boxes, labels, scores, map50, map_):
    detector = Detector(**TINY)
    nothing, crowd = said([], [], []), said([[1, 1, 9, 9], [9, 9, 20, 20]], [2, 2], [0.9, 0.9])
    metrics = validated(detector, [said(boxes, labels, scores), nothing, crowd], tmp_path)
    assert metrics["val/map50"] == pytest.approx(map50, abs=1e-3)
    assert metrics["val/map"] == pytest.approx(map_, abs=1e-3)


class Shared(BoxModule):
    """Nine images of one object and of three by turns: of two processes, each has all of a kind, and one has more."""

    def __init__(self):
        super().__init__(batch_size=2, num_workers=0)

    def val_set(self):
        image, boxes = torch.zeros(3, 32, 32, dtype=torch.uint8), [[4, 4, 20, 20], [1, 1, 9, 9], [9, 20, 30, 30]]
        truth = [target(boxes[:1], [1]), target(boxes, [1, 1, 1])] * 4 + [target(boxes[:1], [1])]
        return [(image + index % 2, each) for index, each in enumerate(truth)]

    train_set = val_set


class Half(Detector):
    """Finds all where there is one object, nothing where there are three."""

    def forward(self, images):
        return [said([], [], []) if image.any() else said([[4, 4, 20, 20]], [1], [0.9]) for image in images]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_processes_train_and_have_one_metric(tmp_path):
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp_spawn",
        max_epochs=1,
        num_sanity_val_steps=0,
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    detector = Half(**TINY)
    before = [parameter.detach().clone() for parameter in detector.parameters()]
    trainer.fit(detector, Shared())
    assert all(p.isfinite().all() for p in detector.parameters())
    assert any(not torch.equal(p, old) for p, old in zip(detector.parameters(), before, strict=True))
    # 5 of 17 objects are found: precision 1 at the recalls 0, .01, ... .29; the processes' own have the mean 1 / 2.
    assert trainer.callback_metrics["val/map"] == pytest.approx(30 / 101, abs=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_the_rate_rises_and_falls_where_the_authors_has_it_fall():
    detector = Detector(**{**TINY, "warmup_steps": 10})
    detector.trainer = type("Trainer", (), {"estimated_stepping_batches": 1200})()
    optimization = detector.configure_optimizers()
    factor = optimization["lr_scheduler"]["scheduler"].lr_lambdas[0]
    found = [factor(step) for step in (0, 4, 9, 799, 800, 1099, 1100, 1199)]
    assert found == pytest.approx([0.1, 0.5, 1, 1, 0.1, 0.1, 0.01, 0.01])
    assert {group["weight_decay"] for group in optimization["optimizer"].param_groups} == {1e-4}


def words(*more):
    shared = (
        "fit --model.backbone poolformer_tiny --model.num_classes 3 --model.channels 16 --model.min_size 32 "
        "--model.max_size 32 --model.anchor_size 8 --data ShapesBoxes --data.image_size 32 --data.train 8 --data.val 4 "
        "--data.batch_size 4 --trainer.max_epochs 1 --trainer.accelerator cpu --trainer.enable_progress_bar false "
        "--trainer.log_every_n_steps 1"
    )
    return [*shared.split(), *more]


def run(monkeypatch, command, arguments):
    monkeypatch.setattr("sys.argv", ["poolformer", *arguments])
    return command()


@pytest.mark.filterwarnings("ignore")
def test_it_trains_from_the_command_line_and_draws(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen, logged = [], {}
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_image", lambda *a, **k: seen.append(a[2].shape))
    log = LightningModule.log_dict
    monkeypatch.setattr(LightningModule, "log_dict", lambda *a, **k: (logged.update(a[1]), log(*a, **k))[1])
    assert run(monkeypatch, detect, words()) == 0
    assert seen[-1] == (3, 2 * 32, 4 * 32)
    assert set(logged) == {
        *("train/loss", "train/loss_class", "train/loss_box", "val/map", "val/map50", "val/map75"),
    }
    assert list((tmp_path / "runs" / "detect").rglob("*.ckpt"))


@pytest.mark.parametrize(("label", "wrong"), [(3, 3), (-1, -1)])
def test_a_class_that_the_model_has_not_is_told_before_it_is_sent_to_a_gpu(label, wrong):
    module = Fixed()
    module.trainer = type("Trainer", (), {"lightning_module": Detector(**TINY)})()
    with pytest.raises(DataError, match=f"the data have a class {wrong}, and --model.num_classes is 3"):
        module.on_before_batch_transfer(([], [target([[1, 1, 9, 9]], [label])]), 0)


def test_pictures_show_names_scores_and_only_what_is_likely(tmp_path):
    detector = Detector(**TINY)
    shown = []
    logger = TensorBoardLogger(tmp_path)
    logger.experiment.add_image = lambda tag, picture, step: shown.append(picture)
    detector.trainer = Trainer(logger=logger, accelerator="cpu", default_root_dir=tmp_path)
    detector.trainer.datamodule = ShapesBoxes()
    image = torch.zeros(3, 40, 40, dtype=torch.uint8)
    truth, unsure = target([], []), said([[4, 4, 30, 30]], [1], [0.1])
    detector._show([image, image[:, :20]], [truth, truth], [unsure, unsure])
    assert shown[-1].shape == (3, 80, 80)
    assert not shown[-1].any()
    detector._show([image], [truth], [said([[4, 4, 30, 30]], [1], [0.9])])
    assert not shown[-1][:, :40].any()
    assert shown[-1][:, 40:].any()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        (detect, words("--model.backbone", "poolformer_tyni"), "poolformer_tiny"),
        (
            detect,
            words("--model.num_classes", "4"),
            r"the data have 3 classes \(disc, square, cross\), and --model.num_classes is 4",
        ),
        (detect, words("--data.batch_size", "9"), "8 images to train on are no batch of 9"),
        (detect, words("--trainer.max_epochs", "-1"), "set --trainer.max_epochs or --trainer.max_steps"),
        (detect, words("--trainer.devices", "0"), "--trainer.devices: "),
        (detect, words("--model.num_classes", "0"), "there is one class at least"),
        (detect, words("--model.mixer", "spatial_fc"), "got 32x32: set --model.image_size, to which all images"),
        (
            detect,
            ["fit", "--data", "CocoBoxes", "--data.root", "nowhere", "--model.backbone", "poolformer_tiny"],
            "nowhere",
        ),
        (
            segment,
            ["fit", "--model.backbone", "poolformer_tiny", "--model.num_classes", "2", "--data", "ShapesData"],
            r"the data have 4 classes \(background, disc, square, cross\), and --model.num_classes is 2",
        ),
    ],
    ids=["backbone", "classes", "batch", "endless", "trainer", "no class", "mixer", "folder", "segment"],
)
def test_a_mistake_is_a_line_and_exit_code_2(tmp_path, monkeypatch, capsys, command, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, command, arguments) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"poolformer-{command.__name__}: error: ")
    assert re.search(message, last)
