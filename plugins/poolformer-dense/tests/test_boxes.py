"""Images and boxes: what is read, what is left out, and what is said of files that cannot be used."""

import json
import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from poolformer_dense.boxes import VOC_CLASSES, CocoBoxes, ShapesBoxes, VOCBoxes
from poolformer_dense.shapes import draw
from torch.utils.data import DistributedSampler

from poolformer.errors import DataError

CATEGORIES = [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 13, "name": "stop sign"}]


def test_boxes_of_shapes_are_around_what_is_seen_of_them():
    for number in range(40):
        drawn = draw(number, 32, 0)
        assert 0 <= len(drawn.boxes) == len(drawn.labels) <= 3
        for (left, top, right, bottom), label in zip(drawn.boxes.int().tolist(), drawn.labels.tolist(), strict=True):
            assert right - left == bottom - top >= 9
            seen = drawn.mask[top:bottom, left:right] == label + 1
            area = (right - left) * (bottom - top)
            assert seen.sum() >= area / {0: 3, 1: 2, 2: 6}[label]  # by half: of a disc, a square and a cross
        if len(drawn.boxes) == 1 and len(drawn.mask.unique()) == 2:
            rows, columns = np.nonzero(drawn.mask.numpy())
            around = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert drawn.boxes[0].tolist() == around


def test_shapes_are_batched_as_lists_and_no_image_is_in_both():
    module = ShapesBoxes(train=8, val=4, image_size=32, batch_size=4)
    module.setup("fit")
    images, targets = next(iter(module.train_dataloader()))
    assert [image.shape for image in images] == [(3, 32, 32)] * 4
    assert {target["boxes"].dtype for target in targets} == {torch.float32}
    (val, targets) = next(iter(module.val_dataloader()))
    assert torch.equal(val[0], draw(8, 32, 0).image)
    assert torch.equal(targets[0]["boxes"], draw(8, 32, 0).boxes)


def test_images_and_their_boxes_are_flipped_together():
    module = ShapesBoxes(train=64, val=1, image_size=32)
    module.setup("fit")
    torch.manual_seed(0)
    flipped = 0
    for number, (image, target) in enumerate(module._train[index] for index in range(64)):
        drawn = draw(number, 32, 0)
        if not torch.equal(image, drawn.image):
            flipped += 1
            assert torch.equal(image, drawn.image.flip(2))
            assert torch.equal(target["boxes"][:, [0, 2]], 32 - drawn.boxes[:, [2, 0]])
            assert torch.equal(target["boxes"][:, [1, 3]], drawn.boxes[:, [1, 3]])
    assert 16 < flipped < 48


def annotation(number, image, category, box, **more):
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, **more}


@pytest.fixture
def coco(tmp_path):
    (tmp_path / "annotations").mkdir()
    for split in ("train2017", "val2017"):
        (tmp_path / split).mkdir()
        images = [
            {"id": 7, "file_name": "b.png", "width": 40, "height": 30},
            {"id": 3, "file_name": "a.png", "width": 0, "height": None},
            {"id": 5, "file_name": "none.png"},
        ]
        for each, (width, height) in zip(images, ((40, 30), (20, 50), (8, 8)), strict=True):
            Image.new("L", (width, height), each["id"]).save(tmp_path / split / each["file_name"])
        annotations = [
            annotation(1, 3, 90, [1, 2, 10, 20]),
            annotation(2, 7, 13, [30, 20, 100, 100], iscrowd=0),  # over the border
            annotation(3, 3, 1, [5, 5, 0, 8]),  # without a width
            annotation(4, 3, 1, [19.5, 5, 5, 8]),  # half a pixel of it is in the image
            annotation(5, 3, 1, [0, 0, 20, 50], iscrowd=1),
        ]
        found = {"images": images, "annotations": annotations, "categories": CATEGORIES}
        (tmp_path / "annotations" / f"instances_{split}.json").write_text(json.dumps(found))
    return tmp_path


def samples(module):
    module.setup("fit")
    return [module._val[index] for index in range(len(module._val))]


def test_coco_has_its_numbers_without_gaps_and_its_boxes_within_the_image(coco):
    module = CocoBoxes(str(coco), num_workers=0)
    (first, one), (_, other), (_, empty) = samples(module)
    assert module.class_names == ("person", "stop sign", "toothbrush")
    assert (first.shape, first.dtype, int(first[2, 0, 0])) == ((3, 30, 40), torch.uint8, 7)
    assert one["boxes"].tolist() == [[30, 20, 40, 30]]
    assert one["labels"].tolist() == [1]
    assert other["boxes"].tolist() == [[1, 2, 11, 22], [0, 0, 20, 50]]
    assert (other["labels"].tolist(), other["iscrowd"].tolist()) == ([2, 0], [0, 1])
    assert (empty["boxes"].shape, empty["labels"].shape) == ((0, 4), (0,))


@pytest.mark.parametrize(("filtered", "images"), [(True, 2), (False, 3)])
def test_images_without_a_box_are_trained_on_where_that_is_asked_for(coco, filtered, images):
    module = CocoBoxes(str(coco), filter_empty_gt=filtered, num_workers=0)
    module.setup("fit")
    assert (len(module._train), len(module._val)) == (images, 3)


def changed(**changes):
    def spoil(folder):
        file = folder / "annotations" / "instances_val2017.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "annotations/instances_val2017.json").unlink(), "val2017.json cannot be read: No such file"),
        (lambda f: (f / "annotations/instances_val2017.json").write_text("{"), "val2017.json is not COCO's: Expecting"),
        (lambda f: (f / "annotations/instances_val2017.json").write_text("[]"), "val2017.json is not COCO's"),
        (lambda f: (f / "annotations/instances_val2017.json").write_text("{}"), "there is no 'categories'"),
        (changed(images=[], annotations=[]), "has no images"),
        (changed(annotations=[annotation(9, 3, 2, [0, 0, 1, 1])]), "annotation 9 is of category 2, not listed"),
        (changed(annotations=[annotation(9, 4, 1, [0, 0, 1, 1])]), "annotation 9 is of image 4, not listed"),
        (changed(annotations=[annotation(9, 3, 1, [0, 0, 1])]), "annotation 9 has no box of four numbers"),
        (
            changed(annotations=[annotation(9, "3", 1, [0, 0, 1, 1])]),
            r"\.json: annotation 9 is of image '3', not",
        ),
        (changed(annotations=[annotation(9, 3, 1, [0, 0, 1, 1], iscrowd=None)]), r"is not COCO's: .* NoneType"),
        (changed(images=[{"id": 3, "file_name": name} for name in ("a.png", "b.png")]), "several images with the id 3"),
        (changed(images=[{"id": 3, "file_name": 7}], annotations=[]), r"is not COCO's: expected str"),
        (changed(annotations=[], categories=CATEGORIES[:2]), "has other categories than"),
        (
            changed(images=[{"id": 3, "file_name": "a.png", "width": 50, "height": 20}], annotations=[]),
            r"a\.png is 20 x 50 pixels, in .*instances_val2017\.json 50 x 20",
        ),
        (lambda f: (f / "val2017/a.png").unlink(), "a.png': cannot be read"),
        (lambda f: (f / "val2017/a.png").write_bytes(b"\x89PNG\r\n\x1a\n"), "a.png: cannot be read"),
    ],
    ids=[
        *("no file", "no json", "a list", "no keys", "no images", "category", "image", "box"),
        *("id of another type", "null crowd", "images of one id", "file of a number"),
        *("categories", "size", "no image", "damaged"),
    ],
)
def test_what_is_wrong_with_a_coco_folder_is_said(coco, spoil, message):
    spoil(coco)
    with pytest.raises(DataError, match=message):
        samples(CocoBoxes(str(coco), num_workers=0))


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_only_a_training_reads_what_is_trained_on(coco, stage):
    (coco / "annotations" / "instances_train2017.json").unlink()
    module = CocoBoxes(str(coco), batch_size=1, num_workers=0)
    module.setup(stage)
    assert len(module.val_dataloader()) == 3
    assert module.class_names == ("person", "stop sign", "toothbrush")
    with pytest.raises(DataError, match=r"instances_train2017\.json cannot be read"):
        module.setup("fit")


def equal(one, other):
    return torch.equal(one[0], other[0]) and all(torch.equal(one[1][key], other[1][key]) for key in one[1])


@pytest.mark.parametrize("kind", ["coco", "voc", "shapes"])
def test_data_sets_can_be_sent_to_a_spawned_process(request, kind):
    made = {
        "coco": lambda: CocoBoxes(str(request.getfixturevalue("coco"))),
        "voc": lambda: VOCBoxes(str(request.getfixturevalue("voc"))),
        "shapes": lambda: ShapesBoxes(train=4, val=4, image_size=32),
    }
    module = made[kind]()
    module.setup("fit")
    assert equal(pickle.loads(pickle.dumps(module._val))[1], module._val[1])
    assert len(pickle.loads(pickle.dumps(module._train))) == len(module._train)


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_another_process_loads_the_same(coco, start):
    module = CocoBoxes(str(coco), batch_size=2, num_workers=1)
    module.setup("fit")
    loader = module.val_dataloader()
    loader.multiprocessing_context = start
    loaded = [(image, target) for batch in loader for image, target in zip(*batch, strict=True)]
    assert len(loaded) == 3
    assert all(equal(one, module._val[index]) for index, one in enumerate(loaded))


def test_a_coco_folder_without_any_box_cannot_be_trained_on(coco):
    for file in (coco / "annotations").iterdir():
        file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    with pytest.raises(DataError, match=r"train2017\.json: no image has a box"):
        CocoBoxes(str(coco)).setup("fit")


def test_fewer_images_than_a_batch_are_told():
    module = ShapesBoxes(train=4, val=4, image_size=32, batch_size=8)
    module.setup("fit")
    with pytest.raises(DataError, match="4 images to train on are no batch of 8"):
        module.train_dataloader()


@pytest.mark.parametrize(("images", "ranks", "enough"), [(12, 2, False), (15, 2, True), (8, 1, True)])
def test_each_process_must_have_a_batch(images, ranks, enough):
    module = ShapesBoxes(train=images, val=4, image_size=32, batch_size=8)
    module.setup("fit")
    module.trainer = type("Trainer", (), {"world_size": ranks})()
    if enough:
        shared = DistributedSampler(module._train, ranks, 0)  # as Lightning gives each process
        assert len(shared) >= 8
        assert len(module.train_dataloader().dataset) == images
    else:
        with pytest.raises(DataError, match="12 images to train on among 2 processes are no batch of 8"):
            module.train_dataloader()


def test_each_image_is_evaluated_by_one_process():
    dealt = []
    for rank in (0, 1, 2):
        module = ShapesBoxes(train=4, val=7, image_size=32, batch_size=2)
        module.setup("validate")
        module.trainer = type("Trainer", (), {"world_size": 3, "global_rank": rank})()
        sampler = module.val_dataloader().sampler
        dealt.append(list(sampler))
        assert len(sampler) == len(dealt[-1])
    assert dealt == [[0, 3, 6], [1, 4], [2, 5]]
    module.trainer.world_size = 8
    with pytest.raises(DataError, match="7 images to evaluate among 8 processes"):
        module.val_dataloader()


def in_voc(name, corners, difficult=0):
    sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>"


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    objects = {"a": in_voc("dog", (1, 1, 40, 20)) + in_voc("tvmonitor", (5, 6, 7, 8), 1), "b": ""}
    for split in ("train", "val"):
        (root / f"ImageSets/Main/{split}.txt").write_text("a\nb\n")
    for name, found in objects.items():
        Image.new("RGB", (40, 30)).save(root / f"JPEGImages/{name}.jpg")
        (root / f"Annotations/{name}.xml").write_text(f"<annotation><folder>x</folder>{found}</annotation>")
    return tmp_path


def test_voc_counts_pixels_from_one_and_has_difficult_objects_apart(voc):
    (_, target), (image, empty) = samples(VOCBoxes(str(voc), num_workers=0))
    assert target["boxes"].tolist() == [[0, 0, 40, 20], [4, 5, 7, 8]]
    assert [VOC_CLASSES[label] for label in target["labels"]] == ["dog", "tvmonitor"]
    assert target["iscrowd"].tolist() == [0, 1]
    assert (image.shape, empty["boxes"].shape) == ((3, 30, 40), (0, 4))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("Annotations/a.xml", "<annotation>", "a.xml cannot be read"),
        (
            "Annotations/a.xml",
            f"<annotation>{in_voc('cake', (1, 1, 2, 2))}</annotation>",
            r"a\.xml has an object of class 'cake'; VOC's are aeroplane, .*, tvmonitor$",
        ),
        ("Annotations/a.xml", "<annotation><object><name>dog</name></object></annotation>", "there is no 'bndbox'"),
        ("Annotations/a.xml", "<annotation><object>dog</object></annotation>", r"a\.xml is not VOC's: string indices"),
        (
            "Annotations/a.xml",
            "<annotation><object><name>dog</name><bndbox>1</bndbox><bndbox>2</bndbox></object></annotation>",
            r"a\.xml is not VOC's: list indices",
        ),
        ("JPEGImages/a.jpg", "no image", r"a\.jpg: cannot be read as an image"),
        ("ImageSets/Main/val.txt", None, "has no VOCdevkit of 2012 with 'val'"),
    ],
)
def test_what_is_wrong_with_voc_is_said(voc, file, content, message):
    place = voc / "VOCdevkit" / "VOC2012" / file
    place.unlink() if content is None else place.write_text(content)
    with pytest.raises(DataError, match=message):
        samples(VOCBoxes(str(voc), num_workers=0))
