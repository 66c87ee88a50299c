"""A trained classifier from Python: images of any kind in, class names with their probabilities out."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from poolformer import load_classifier, predict
from poolformer.backbones import create_backbone
from poolformer.classifier import ImageClassifier
from poolformer.data.pixels.orientation import as_exif
from poolformer.errors import CheckpointError, ConfigError, DataError
from poolformer.trained import Guess, evaluation_pixels, feeding

NAMES = ["ant", "bee", "cat"]


def saved(path, *, names=NAMES, **data_options):
    torch.manual_seed(0)
    classifier = ImageClassifier("poolformer_tiny", len(NAMES), image_size=32, layer_scale_init=1.0)
    torch.nn.init.normal_(classifier.backbone.head.fc.weight)
    classifier.class_names = names
    content = {
        "pytorch-lightning_version": "2.6.6",
        "state_dict": classifier.state_dict(),
        "hyper_parameters": dict(classifier.hparams),
        "datamodule_hyper_parameters": data_options,
    }
    classifier.on_save_checkpoint(content)
    torch.save(content, path)
    return path


@pytest.fixture
def classifier(tmp_path):
    return load_classifier(saved(tmp_path / "best.ckpt", crop_pct=0.8))


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_files_pillow_images_and_arrays_are_the_same_to_it(classifier, photo):
    with Image.open(photo) as image:
        kinds = [str(photo), photo, image, np.asarray(image)]
        found = predict(classifier, kinds)
    assert len(found) == 4
    assert all(guesses == found[0] for guesses in found)
    assert {guess.name for guess in found[0]} == {*NAMES}
    assert predict(classifier, photo) == predict(classifier, [photo])


def test_the_numbers_are_the_network_s_of_the_image_as_timm_would_crop_it(classifier, photo):
    from timm.data import create_transform

    transform = create_transform(32, crop_pct=0.8, interpolation="bicubic")
    with Image.open(photo) as image:
        logits = classifier(transform(image)[None])[0]
    order = logits.argsort(descending=True).tolist()
    [guesses] = predict(classifier, photo)
    assert [guess.name for guess in guesses] == [guess.words for guess in guesses] == [NAMES[label] for label in order]
    assert [guess.probability for guess in guesses] == pytest.approx(logits.softmax(0)[order].tolist(), abs=1e-5)


def test_many_images_come_in_their_order(classifier):
    levels = [np.full((32, 32, 3), level, np.uint8) for level in range(0, 256, 2)]
    several = predict(classifier, levels, top_k=1)
    assert len({guesses[0].probability for guesses in several}) > 64
    for n in (0, 63, 64, 127):
        (alone,) = predict(classifier, levels[n], top_k=1)
        assert several[n][0].probability == pytest.approx(alone[0].probability, abs=1e-5)


def test_a_checkpoint_without_names_gives_numbers_and_as_many_as_are_asked_for(tmp_path, photo):
    classifier = load_classifier(saved(tmp_path / "a.ckpt", names=None))
    [guesses] = predict(classifier, photo, top_k=2)
    assert all(isinstance(guess, Guess) and guess.name in ("0", "1", "2") for guess in guesses)
    assert len(guesses) == 2


def test_it_stays_in_the_mode_that_it_was_in(classifier, photo):
    classifier.train()
    assert predict(classifier, photo) == predict(classifier.eval(), photo)
    predict(classifier.train(), photo)
    assert classifier.training


@pytest.mark.parametrize("top_k", [0, -1, 4])
def test_there_are_not_so_many_classes(classifier, photo, top_k):
    with pytest.raises(ConfigError, match=f"^top_k {top_k}: the network knows 3 classes: from 1 to 3"):
        predict(classifier, photo, top_k=top_k)


WRONG = {
    "missing": ("nowhere.png", "no image at 'nowhere.png'"),
    "floats": (np.zeros((9, 9, 3)), r"an image is float64 \(9, 9, 3\); expected is uint8 \(H, W, 3\)"),
    "channels first": (np.zeros((3, 9, 9), np.uint8), r"an image is uint8 \(3, 9, 9\)"),
    "grey of 32 bits": (Image.new("I", (9, 9)), "Pillow's mode I, in which no number is white"),
}


@pytest.mark.parametrize("which", WRONG)
def test_what_is_no_image_is_refused(classifier, which):
    given, message = WRONG[which]
    with pytest.raises(DataError, match=message):
        predict(classifier, given)


@pytest.mark.parametrize("orient", [True, False, None, "yes"])
def test_images_are_turned_where_the_run_turned_them(tmp_path, photo, orient):
    with Image.open(photo) as image:
        image.save(tmp_path / "turned.png", exif=as_exif(6))
        plain, turned = np.asarray(image), np.rot90(np.asarray(image), -1)
    classifier = load_classifier(saved(tmp_path / "a.ckpt", orient=orient))
    assert classifier.loaded.orient is (orient is True)
    expected = evaluation_pixels(turned if orient is True else plain, classifier)
    data = io.BytesIO((tmp_path / "turned.png").read_bytes())
    with Image.open(data) as image:
        for given in (tmp_path / "turned.png", image):
            assert torch.equal(evaluation_pixels(given, classifier), expected)


def test_it_says_how_it_is_fed(classifier):
    facts = feeding(classifier)
    assert {name: facts[name] for name in ("image_size", "crop_pct", "resize", "interpolation", "orient")} == {
        "image_size": 32,
        "crop_pct": 0.8,
        "resize": 40,
        "interpolation": "bicubic",
        "orient": False,
    }
    assert (facts["mean"], facts["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


def test_published_weights_are_loaded_as_a_checkpoint_is(tmp_path):
    torch.manual_seed(0)
    network = create_backbone("poolformer_tiny", num_classes=7).eval()
    torch.save(network.state_dict(), tmp_path / "poolformer_tiny.pth")
    found = load_classifier(tmp_path / "poolformer_tiny.pth")
    images = torch.rand(2, 3, 32, 32)
    assert not found.training
    assert found.hparams.num_classes == 7  # of the file, as nobody says it
    assert found.class_names is None
    torch.testing.assert_close(found(images), network(images))


def test_a_thousand_logits_without_names_are_imagenets(tmp_path):
    torch.save(create_backbone("poolformer_tiny").state_dict(), tmp_path / "mine.pth")
    with pytest.warns(UserWarning, match="does not say which token mixer"):
        found = load_classifier(tmp_path / "mine.pth", backbone="poolformer_tiny")
    assert found.class_name(207) == "n02099601"


def test_weights_without_a_head_make_no_classes(tmp_path):
    torch.save(create_backbone("poolformer_tiny", num_classes=0).state_dict(), tmp_path / "poolformer_tiny.pth")
    fresh = pytest.warns(UserWarning, match="it has no head")
    with fresh, pytest.raises(CheckpointError, match="has no head: its weights make no classes"):
        load_classifier(tmp_path / "poolformer_tiny.pth")


def test_synsets_are_said_in_words(classifier, photo):
    classifier.class_names = ["n02099601", "n01440764", "n02119789"]
    [guesses] = predict(classifier, photo)
    words = {
        "n02099601": "golden retriever",
        "n01440764": "tench, Tinca tinca",
        "n02119789": "kit fox, Vulpes macrotis",
    }
    assert {guess.name: guess.words for guess in guesses} == words
