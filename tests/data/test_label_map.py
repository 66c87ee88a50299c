"""Sets with some of ImageNet's classes, or several right labels an image: counted as the papers count."""

import json
import re

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, Trainer
from PIL import Image
from timm.data import ImageNetInfo, RealLabelsImagenet

from poolformer.classifier import ImageClassifier
from poolformer.data.folder import FolderData
from poolformer.data.label_map import best_of_right, check, class_names_of, restricted, right_labels
from poolformer.errors import ConfigError, DataError

FILES = [f"val/n{n % 3:08d}/ILSVRC2012_val_{n + 1:08d}.JPEG" for n in range(40)]
SYNSETS = ImageNetInfo().label_names()


def listed(path, content):
    path.write_text(json.dumps(content))
    return str(path)


def test_real_labels_are_counted_as_timm_counts_them(tmp_path):
    generator = np.random.default_rng(0)
    real = [generator.choice(1000, generator.integers(0, 4), replace=False).tolist() for _ in FILES]
    right = right_labels(listed(tmp_path / "real.json", real), FILES)
    assert right is not None
    logits = torch.randn(len(FILES), 1000, generator=torch.Generator().manual_seed(0))
    for row, labels in zip(logits[::3], real[::3], strict=True):
        row[labels] += 3
    theirs = RealLabelsImagenet(FILES, real_json=str(tmp_path / "real.json"))
    theirs.add_result(logits)
    kept, labels, has_label = best_of_right(logits, right)
    assert has_label.tolist() == list(map(bool, real))
    assert len(kept) == sum(map(bool, real)) < len(FILES)
    ranks = (kept > kept.gather(1, labels[:, None])).sum(1)
    found = [100 * float((ranks < k).float().mean()) for k in (1, 5)]
    assert found == pytest.approx([theirs.get_accuracy(1), theirs.get_accuracy(5)])
    assert found[0] not in (0, 100)


def test_lists_by_name_are_the_same_as_by_number(tmp_path):
    lists = [[n, n + 1][: n % 3] for n in range(len(FILES))]
    names = {file.rpartition("/")[2]: each for file, each in zip(FILES, lists, strict=True)}
    by_number = right_labels(listed(tmp_path / "a.json", lists), FILES[::-1])
    by_name = right_labels(listed(tmp_path / "b.json", names), FILES[::-1])
    assert by_number is not None
    assert by_name is not None
    assert torch.equal(by_number, by_name)


MISTAKES = {
    "no list": ({"a": 1}, "is no list of labels, 0 to 999"),
    "a label beyond": ([[1000]], "is no list of labels, 0 to 999"),
    "too few": ([[1]], "lists 1 images by number, and 'ILSVRC2012_val_00000002.JPEG' is none of them"),
    "other names": ({"a.JPEG": [1]}, "has no labels for 'ILSVRC2012_val_00000001.JPEG'"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_lists_that_do_not_fit_are_refused(tmp_path, case):
    content, message = MISTAKES[case]
    with pytest.raises(DataError, match=message):
        right_labels(listed(tmp_path / "real.json", content), FILES)


def test_what_is_no_map_is_refused():
    for given, meant in (("imagenet-b", ""), ("7", ""), ("subsets", " Did you mean 'subset'?"), ("number", " Did you")):
        with pytest.raises(
            ConfigError, match=rf"label_map {given}: there is no such file\.{re.escape(meant)}.* It is the"
        ):
            check({"label_map": given}, "validate")
    with pytest.raises(ConfigError, match="goes by the names of files"):
        right_labels(__file__, None)
    for stage in ("fit", "predict"):
        with pytest.raises(ConfigError, match="is for validate and test"):
            check({"label_map": "subset"}, stage)
    with pytest.raises(ConfigError, match=r"is for whole sets: take --data.val_share back"):
        check({"label_map": "subset", "val_share": 0.2, "tune_share": None}, "validate")
    check({"label_map": None, "val_share": 0.2}, "fit")


def test_numbers_of_classes_are_synsets():
    assert class_names_of("numbers", ["0", "1", "10"]) == [SYNSETS[0], SYNSETS[1], SYNSETS[10]]
    assert class_names_of("subset", ["0"]) == ["0"]
    with pytest.raises(DataError, match="classes are called 0 to 999, and here is cat"):
        class_names_of("numbers", ["0", "cat"])


def test_other_logits_do_not_count():
    logits = torch.tensor([[5.0, 1.0, 2.0, 0.0]])
    assert restricted(logits, torch.tensor([1, 3])).softmax(1)[0, [0, 2]].tolist() == [0, 0]
    assert restricted(logits, torch.tensor([1, 3])).argmax() == 1


class Seen(Callback):
    """Keeps what callbacks are given of the images that count."""

    def setup(self, trainer, pl_module, stage):
        self.images, self.logits, self.labels = (torch.empty(0) for _ in range(3))

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        for name, value in outputs.items():
            setattr(self, name, torch.cat([getattr(self, name), value]))


@pytest.mark.filterwarnings("ignore")  # Lightning's, about a loader and a logger
@pytest.mark.parametrize("kind", ["subset", "numbers", "real"])
def test_validation_counts_by_the_map(tmp_path, kind):
    labels = [207, 30, 999]
    names = [str(label) if kind == "numbers" else SYNSETS[label] for label in labels]
    generator, images = np.random.default_rng(0), []
    for number in range(12):
        folder = tmp_path / "val" / names[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        images.append(generator.integers(0, 256, (32, 32, 3), np.uint8))
        Image.fromarray(images[-1]).save(folder / f"ILSVRC2012_val_{number + 1:08d}.png")
    torch.manual_seed(0)
    torch.save(ImageClassifier("poolformer_tiny").backbone.state_dict(), tmp_path / "poolformer_tiny.pth")
    model = ImageClassifier("poolformer_tiny", pretrained=str(tmp_path / "poolformer_tiny.pth")).eval()
    with torch.inference_mode():
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        logits = model((pixels - model.mean) / model.std)
    likeliest = logits.argmax(1).tolist()
    # Right at the even numbers, by the second label of their lists; of the first image nobody says anything.
    real = [[]] + [[5, likeliest[n]] if n % 2 == 0 else [5] for n in range(1, 12)]
    label_map = listed(tmp_path / "real.json", real) if kind == "real" else kind
    data = FolderData(val=str(tmp_path / "val"), image_size=32, crop_pct=1.0, batch_size=5, label_map=label_map)
    trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.callbacks.append(seen := Seen())
    [found] = trainer.validate(model, data, verbose=False)
    assert len(seen.images) == len(seen.labels) == found["val/images"]
    assert (seen.logits.argmax(1) == seen.labels).float().mean() == pytest.approx(found["val/top1"])
    truths = torch.tensor([labels[n % 3] for n in range(12)])
    if kind == "real":
        assert (found["val/images"], found["val/top1"]) == (11, pytest.approx(5 / 11))
        return
    counted = logits if kind == "numbers" else logits[:, labels]
    wanted = truths if kind == "numbers" else torch.arange(12) % 3
    assert found["val/loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(counted, wanted)), abs=1e-4)
    assert found["val/top1"] == pytest.approx(float((counted.argmax(1) == wanted).float().mean()))
