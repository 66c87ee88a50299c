"""Published weights under everybody's names: the authors' logits come out, and what does not fit is said."""

import dataclasses
import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
import tarfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from golden.fill import fill_model, fill_state_dict, images
from safetensors.torch import save_file
from torch import Tensor, nn

from poolformer.backbones import create_backbone
from poolformer.checkpoint.pretrained import load_pretrained
from poolformer.checkpoint.record import RECORD, record
from poolformer.classifier import ImageClassifier
from poolformer.errors import CheckpointError, MisfitError
from poolformer.network.metaformer import MetaFormer

ORACLE = json.loads((Path(__file__).parents[1] / "golden" / "oracle.json").read_text())

# The network of the golden case tiny_64x64: depths 1, 1, 2, 1.
DIMS = (8, 16, 24, 32)
BLOCK_DIMS = (8, 16, 24, 24, 32)
tiny = partial(MetaFormer, depths=(1, 1, 2, 1), dims=DIMS, num_classes=10)

# Written by hand from the names in the published files, not by the loader's rules. For each naming: stem,
# downsamplings, blocks, inside a block (norm1, norm2, fc1, fc2, layer scale 1 and 2), last norm, classifier.
NAMINGS: dict[str, tuple[str, list[str], list[str], list[str], str, str]] = {
    "authors": (
        "patch_embed.proj",
        ["network.1.proj", "network.3.proj", "network.5.proj"],
        ["network.0.0", "network.2.0", "network.4.0", "network.4.1", "network.6.0"],
        ["norm1", "norm2", "mlp.fc1", "mlp.fc2", "layer_scale_1", "layer_scale_2"],
        "norm",
        "head",
    ),
    "timm": (
        "stem.conv",
        ["stages.1.downsample.conv", "stages.2.downsample.conv", "stages.3.downsample.conv"],
        ["stages.0.blocks.0", "stages.1.blocks.0", "stages.2.blocks.0", "stages.2.blocks.1", "stages.3.blocks.0"],
        ["norm1", "norm2", "mlp.fc1", "mlp.fc2", "layer_scale1.scale", "layer_scale2.scale"],
        "head.norm",
        "head.fc",
    ),
    "mmpretrain": (
        "backbone.patch_embed.proj",
        ["backbone.network.1.proj", "backbone.network.3.proj", "backbone.network.5.proj"],
        [f"backbone.network.{entry}" for entry in ("0.0", "2.0", "4.0", "4.1", "6.0")],
        ["norm1", "norm2", "mlp.fc1", "mlp.fc2", "layer_scale_1", "layer_scale_2"],
        "backbone.norm6",
        "head.fc",
    ),
    "transformers": (
        "poolformer.encoder.patch_embeddings.0.projection",
        [f"poolformer.encoder.patch_embeddings.{stage}.projection" for stage in (1, 2, 3)],
        [f"poolformer.encoder.block.{entry}" for entry in ("0.0", "1.0", "2.0", "2.1", "3.0")],
        ["before_norm", "after_norm", "output.conv1", "output.conv2", "layer_scale_1", "layer_scale_2"],
        "norm",
        "classifier",
    ),
}


def published(naming: str) -> dict[str, Tensor]:
    """Return the golden weights of the tiny network as a file of this naming would hold them."""
    values = fill_state_dict(_shapes("authors"))
    return {theirs: values[name] for name, theirs in zip(_shapes("authors"), _shapes(naming), strict=True)}


def _shapes(naming: str) -> dict[str, Tensor]:
    stem, downsamplings, blocks, (norm1, norm2, fc1, fc2, scale1, scale2), norm, head = NAMINGS[naming]
    shapes: dict[str, tuple[int, ...]] = {f"{stem}.weight": (8, 3, 7, 7), f"{stem}.bias": (8,)}
    for name, dim_in, dim in zip(downsamplings, DIMS[:-1], DIMS[1:], strict=True):
        shapes |= {f"{name}.weight": (dim, dim_in, 3, 3), f"{name}.bias": (dim,)}
    for block, dim in zip(blocks, BLOCK_DIMS, strict=True):
        for part in (norm1, norm2):
            shapes |= {f"{block}.{part}.weight": (dim,), f"{block}.{part}.bias": (dim,)}
        shapes |= {f"{block}.{fc1}.weight": (4 * dim, dim, 1, 1), f"{block}.{fc1}.bias": (4 * dim,)}
        shapes |= {f"{block}.{fc2}.weight": (dim, 4 * dim, 1, 1), f"{block}.{fc2}.bias": (dim,)}
        shapes |= {f"{block}.{scale1}": (dim,), f"{block}.{scale2}": (dim,)}
    shapes |= {f"{norm}.weight": (32,), f"{norm}.bias": (32,), f"{head}.weight": (10, 32), f"{head}.bias": (10,)}
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def saved(path: Path, content: Any) -> Path:
    save_file(content, path) if path.suffix == ".safetensors" else torch.save(content, path)
    return path


def load(backbone: nn.Module, source: Path, *, name: str = "tiny", **options: Any) -> list[str]:
    return load_pretrained(backbone, source, name=name, **options)


@torch.no_grad()
def golden_difference(backbone: nn.Module) -> float:
    """Return how far the logits are from those of the authors' code."""
    expected = ORACLE["tiny_64x64"]
    logits = backbone.eval()(images(*(expected["shape_in"][axis] for axis in (0, 2, 3))))
    return (logits[0] - torch.tensor(expected["logits16"], dtype=torch.float64)).abs().max().item()


# ---- names


WRAPPERS = {
    "flat": lambda weights: weights,
    "under state_dict": lambda weights: {"state_dict": weights, "epoch": 300},
    "under model": lambda weights: {"model": weights, "epoch": 300},
    "of DDP": lambda weights: {f"module.{name}": value for name, value in weights.items()},
    "of a LightningModule, compiled": lambda weights: {
        "state_dict": {f"model._orig_mod.{name}": value for name, value in weights.items()}
    },
    "of DDP, compiled": lambda weights: {"model": {f"module._orig_mod.{name}": v for name, v in weights.items()}},
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("naming", NAMINGS)
def test_the_authors_logits_come_out_whoever_named_the_weights(tmp_path, naming, wrap):
    backbone = tiny().double()
    load(backbone, saved(tmp_path / "poolformer_tiny.pth.tar", wrap(published(naming))))
    assert golden_difference(backbone) <= 1e-12


@pytest.mark.parametrize("naming", NAMINGS)
def test_safetensors_are_read_also_from_home(tmp_path, naming, monkeypatch):
    backbone = tiny().double()
    saved(tmp_path / "poolformer.safetensors", published(naming))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    load(backbone, "~/poolformer.safetensors")
    assert golden_difference(backbone) <= 1e-12


@pytest.mark.parametrize("naming", NAMINGS)
def test_weights_of_three_channels_give_one_channel_what_they_gave_grey_images(tmp_path, naming):
    source, grey = saved(tmp_path / "poolformer.pth.tar", published(naming)), torch.rand(2, 1, 64, 64)
    three, one = tiny().eval(), tiny(in_chans=1).eval()
    load(three, source)
    [note] = [note for note in load(one, source) if "stem.conv" in note]
    assert "3 channels and the network of 1: the weights of stem.conv are summed, by timm's rule" in note
    torch.testing.assert_close(one(grey), three(grey.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_the_golden_weights_are_not_those_of_a_fresh_network():
    assert golden_difference(tiny().double()) > 0.1


def test_weights_of_torch_before_1_6_are_read(tmp_path):
    torch.save(published("authors"), tmp_path / "poolformer.pth.tar", _use_new_zipfile_serialization=False)
    backbone = tiny().double()
    load(backbone, tmp_path / "poolformer.pth.tar")
    assert golden_difference(backbone) <= 1e-12


@pytest.mark.slow
def test_the_whole_s12_loads_by_its_name(tmp_path):
    with torch.device("meta"):
        shapes = create_backbone("poolformer_s12")
    file = saved(tmp_path / "poolformer_s12.pth.tar", fill_model(shapes))
    backbone = create_backbone("poolformer_s12", pretrained=file)
    with torch.no_grad():
        logits = backbone.eval()(images(1, 224, 224).float())[0, :16]
    torch.testing.assert_close(logits, torch.tensor(ORACLE["poolformer_s12_224"]["logits16"]), rtol=0, atol=1e-5)


def test_a_hybrids_position_embedding_shifts_what_comes_after_it(tmp_path):
    """In the authors' code it is an entry of `network`; stages and downsamplings after it move by one."""
    for place, stage in ((6, 3), (4, 2)):
        shifted = {"pos_embed": torch.zeros(1, DIMS[stage], 7, 7)}
        weights = {f"network.{place}.{name}": value for name, value in shifted.items()}
        for name, value in published("authors").items():
            first, _, rest = name.partition(".")
            entry, _, inside = rest.partition(".")
            moved = first == "network" and int(entry) >= place
            weights[f"network.{int(entry) + 1}.{inside}" if moved else name] = value
        with pytest.raises(MisfitError) as caught:  # by its embedding alone
            load(tiny(), saved(tmp_path / "metaformer_ppaa.pth.tar", weights))
        error = caught.value
        assert (error.unexpected, error.missing, error.other_shapes) == ([f"stages.{stage}.pos_embed"], [], [])


def test_weights_of_detection_come_without_their_norms_and_say_so(tmp_path):
    weights = {name: value for name, value in published("authors").items() if not name.startswith(("norm.", "head."))}
    for stage, dim in enumerate(DIMS):
        weights |= {f"norm{2 * stage}.weight": torch.ones(dim), f"norm{2 * stage}.bias": torch.zeros(dim)}
    file = saved(tmp_path / "poolformer_det.pth", {"state_dict": weights})
    backbone = tiny().double()
    head = {name: value.clone() for name, value in backbone.head.state_dict().items()}
    assert load(backbone, file) == [
        f"'{file}': it is a detection backbone; its norms after the stages are left out",
        f"'{file}': it has no head: the network's head is fresh and has to be trained",
    ]
    assert all(torch.equal(value, head[name]) for name, value in backbone.head.state_dict().items())
    assert torch.equal(backbone.stages[3].blocks[0].norm1.weight, published("authors")["network.6.0.norm1.weight"])


def test_two_names_for_one_tensor_are_refused(tmp_path):
    weights = {**published("authors"), "stem.conv.bias": torch.zeros(8)}
    with pytest.raises(CheckpointError, match="two tensors of one name"):
        load(tiny(), saved(tmp_path / "poolformer.pth", weights))


# ---- the head


@pytest.mark.parametrize("naming", NAMINGS)
def test_another_number_of_classes_keeps_the_fresh_head_and_says_so(tmp_path, naming):
    file = saved(tmp_path / "poolformer.pth", published(naming))
    backbone = tiny(num_classes=3).double()
    head = backbone.head.fc.weight.clone()
    notes = load(backbone, file)
    assert notes == [
        f"'{file}': it is for 10 classes, the network for 3: the network's head is fresh and has to be trained"
    ]
    assert torch.equal(backbone.head.fc.weight, head)
    assert torch.equal(backbone.head.norm.weight, published("authors")["norm.weight"])


def test_a_network_without_classes_takes_the_rest(tmp_path):
    backbone, whole = tiny(num_classes=0).double(), tiny().double()
    file = saved(tmp_path / "poolformer.pth", published("authors"))
    assert load(backbone, file) == load(whole, file) == []
    pixels = images(1, 64, 64)
    assert torch.equal(backbone.eval()(pixels), whole.eval().forward_head(whole.forward_features(pixels), True))


def test_weights_without_a_head_leave_it_fresh_and_say_so(tmp_path):
    weights = {name: value for name, value in published("authors").items() if not name.startswith("head.")}
    file = saved(tmp_path / "poolformer.pth", weights)
    note = f"'{file}': it has no head: the network's head is fresh and has to be trained"
    assert load(tiny(), file) == [note]
    assert load(tiny(num_classes=0), file) == []


def test_timms_names_are_warned_of_where_logits_are_kept(tmp_path):
    file = saved(tmp_path / "poolformer.safetensors", published("timm"))
    (note,) = load(tiny(), file, name="poolformer_s12")
    assert note == (
        f"'{file}': its names are timm's: if timm >= 0.9 trained it, logits differ from timm's, which takes the mean "
        "before the last norm; features are equal"
    )
    assert "names are timm's" not in " ".join(load(tiny(num_classes=3), file, name="poolformer_s12"))
    assert load(tiny(num_classes=0), file, name="poolformer_s12") == []
    assert load(tiny(), file, name="poolformer_tiny") == []  # of which timm has none


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("of_timm", [False, True])
def test_the_state_dict_of_our_own_network_is_not_taken_for_timms(tmp_path, of_timm, nested):
    network = tiny()
    if of_timm:
        network.head.global_pool = nn.Identity()  # as timm's is called
    weights = network.state_dict()
    file = saved(tmp_path / "poolformer.pth", {"state_dict": weights} if nested else weights)
    notes = load(tiny(), file, name="poolformer_s12")
    assert [note for note in notes if "names are timm's" in note] == (notes if of_timm else [])


# ---- what does not fit


def test_a_misfit_names_the_first_and_keeps_all(tmp_path):
    weights = published("authors")
    weights["network.0.0.extra"] = torch.zeros(1)
    for name in ("network.0.0.mlp.fc1.weight", "norm.weight", "network.2.0.norm2.bias", "network.6.0.layer_scale_1"):
        del weights[name]
    weights["network.4.1.norm1.bias"] = torch.zeros(5)
    file = saved(tmp_path / "poolformer.pth", weights)
    backbone = tiny()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(MisfitError) as caught:
        load(backbone, file)
    assert str(caught.value) == (
        f"'{file}' does not fit backbone tiny: 1 tensor only in the file ('stages.0.blocks.0.extra'), "
        "4 tensors only in the network ('head.norm.weight'; 'stages.0.blocks.0.mlp.fc1.weight'; "
        "'stages.1.blocks.0.norm2.bias' ...), 1 tensor of another shape ('stages.2.blocks.1.norm1.bias' (5,), here "
        "(24,))"
    )
    assert caught.value.unexpected == ["stages.0.blocks.0.extra"]
    assert caught.value.missing == [
        "head.norm.weight",
        "stages.0.blocks.0.mlp.fc1.weight",
        "stages.1.blocks.0.norm2.bias",
        "stages.3.blocks.0.layer_scale1.scale",
    ]
    assert caught.value.other_shapes == ["stages.2.blocks.1.norm1.bias"]
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_another_size_is_said_as_one(tmp_path):
    file = saved(tmp_path / "poolformer.pth", published("authors"))
    with pytest.raises(MisfitError) as caught:
        create_backbone("poolformer_s12", num_classes=10, pretrained=file)
    assert str(caught.value).endswith(
        "it has depths [1, 1, 2, 1] and dims [8, 16, 24, 32], the network depths [2, 2, 6, 2] and dims "
        "[64, 128, 320, 512]"
    )
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_a_mixer_of_another_image_size_is_said_to_be_one(tmp_path, fake_plugin):
    fake_plugin(
        entry_points={"poolformer.mixers": {"tokens": "token_mixer:Tokens"}},
        modules={
            "token_mixer": """
from torch import nn


class Tokens(nn.Module):
    def __init__(self, dim, resolution):
        super().__init__()
        self.fc = nn.Linear(resolution[0] * resolution[1], resolution[0] * resolution[1])

    def forward(self, x):
        return self.fc(x.flatten(2)).unflatten(2, x.shape[2:])
"""
        },
    )
    file = saved(tmp_path / "mine.pth", tiny(mixer="tokens", image_size=64).state_dict())
    with pytest.raises(
        MisfitError, match=r"token_mixer.* fits at the image size it was trained at; --model.pretrained_skip mixers"
    ):
        load(tiny(mixer="tokens", image_size=96), file, mixer="tokens")
    assert load(tiny(mixer="tokens", image_size=64), file, mixer="tokens") == []


def test_names_that_a_hostile_file_chose_stay_in_one_line(tmp_path):
    file = saved(tmp_path / "poolformer.pth", {**published("authors"), "a\n\x1b[31mb" * 99: torch.zeros(1)})
    with pytest.raises(MisfitError) as caught:
        load(tiny(), file)
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


# ---- the token mixer


@pytest.mark.parametrize(
    ("name", "mixer", "note"),
    [
        ("poolformer_s12.pth.tar", "pooling", None),
        ("poolformer_s12.pth.tar", {"name": "pooling", "pool_size": 3}, None),
        ("poolformer_s12.pth.tar", ["pooling", {"name": "pooling"}, "pooling", "pooling"], None),
        (
            "poolformer_s12.pth.tar",
            {"name": "pooling", "pool_size": 5},
            "by its name it was trained with token mixer pooling, not {'name': 'pooling', 'pool_size': 5}",
        ),
        ("poolformer_s12.pth.tar", "identity", "by its name it was trained with token mixer pooling, not identity"),
        ("metaformer_id_s12.pth.tar", "identity", None),
        ("metaformer_id_s12.pth.tar", "pooling", "by its name it was trained with token mixer identity, not pooling"),
        (
            "model.pth",
            ["pooling", "identity", "identity", "pooling"],
            "it does not say which token mixer it was trained with; make sure that it was identity, pooling",
        ),
    ],
)
def test_a_mixer_without_weights_is_compared_with_the_files_name(tmp_path, name, mixer, note):
    file = saved(tmp_path / name, published("authors"))
    assert load(tiny(mixer=mixer), file, mixer=mixer) == ([f"'{file}': {note}"] if note else [])


def test_a_mixer_with_weights_needs_no_name(tmp_path):
    mixer = ["depthwise", "depthwise", "depthwise", "attention"]
    network = tiny(mixer=mixer)
    weights = {name.replace("stem.conv", "patch_embed.proj"): value for name, value in network.state_dict().items()}
    assert load(tiny(mixer=mixer), saved(tmp_path / "model.pth", weights), mixer=mixer) == []
    with pytest.raises(MisfitError, match=r"stages\.0\.blocks\.0\.token_mixer"):
        load(tiny(), saved(tmp_path / "model.pth", weights))


def test_transformers_names_tell_the_mixer(tmp_path):
    file = saved(tmp_path / "model.safetensors", published("transformers"))
    assert load(tiny(), file) == []
    assert load(tiny(mixer="identity"), file, mixer="identity") == [
        f"'{file}': by its name it was trained with token mixer pooling, not identity"
    ]


def checkpoint_of_a_run(path: Path, model: ImageClassifier) -> Path:
    hparams = model.hparams
    made = record(backbone=hparams.backbone, mixer=hparams.mixer, class_names=None)
    content = {"state_dict": model.state_dict(), RECORD: made, "pytorch-lightning_version": "2.6.6"}
    return saved(path, content)


def test_a_checkpoint_of_a_run_tells_its_mixer(tmp_path):
    file = checkpoint_of_a_run(tmp_path / "poolformer.ckpt", ImageClassifier("poolformer_tiny", 10, mixer="identity"))
    options = {"num_classes": 10, "pretrained": str(file)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create_backbone("poolformer_tiny", mixer="identity", **options)
    with pytest.warns(UserWarning, match=rf"^'{file}': the checkpoint was trained with token mixer 'identity'"):
        create_backbone("poolformer_tiny", **options)


def test_the_classifier_takes_them_and_its_checkpoints_do_not_need_the_file(tmp_path):
    source = ImageClassifier("poolformer_tiny", 10, mixer="depthwise")
    file = checkpoint_of_a_run(tmp_path / "run.ckpt", source)
    model = ImageClassifier("poolformer_tiny", 10, mixer="depthwise", pretrained=str(file))
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())
    assert "pretrained" not in model.hparams


# ---- files


DAMAGED = {
    "empty": b"",
    "text": b"not weights\n" * 20,
    "a web page": b"<!DOCTYPE html><html><body>404: Not Found</body></html>\n" * 10,
    "a git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n",
    "zeros": bytes(5000),
    "a huge header": b"\xff" * 7 + b"\x7f{" + bytes(100),
}


@pytest.mark.parametrize("name", ["poolformer.pth.tar", "poolformer.safetensors"])
@pytest.mark.parametrize("content", [*DAMAGED.values(), None], ids=[*DAMAGED, "half"])
def test_a_damaged_file_is_an_error_of_one_line_that_names_it(tmp_path, name, content):
    file = saved(tmp_path / name, published("authors"))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2] if content is None else content)
    with pytest.raises(CheckpointError) as caught:
        load(tiny(), file)
    assert str(caught.value).startswith(f"'{file}' is not a ")
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value).replace("``weights_only=True``", "")


@pytest.mark.parametrize("source", ["nope.pth", ".", "poolformer_s12", "True", ""])
def test_no_file_is_an_error_that_says_what_can_be_passed(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as caught:
        create_backbone("poolformer_tiny", pretrained=source)
    assert str(caught.value) == (
        f"no weights at '{source}': pass a file (.pth.tar, .pth, .safetensors, .ckpt) or a name of timm's hub, "
        "such as timm/poolformer_s12.sail_in1k"
    )


def test_an_address_is_not_loaded():
    address = "https://example.com/poolformer_s12.pth.tar"
    with pytest.raises(CheckpointError) as caught:
        load(tiny(), address)
    assert str(caught.value) == (
        f"weights come from a file: download '{address}', compare its sha256, and pass the file"
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({}, "nothing"),
        ({"epoch": 3, "lr": 0.1}, "'epoch': int, 'lr': float"),
        ({"state_dict": {"a": 1}}, "'a': int"),
        ({"state_dict": {}}, "nothing"),
        ({1: torch.zeros(2)}, "int: Tensor"),
        ({**published("authors"), "args": "x"}, "'patch_embed.proj.weight': Tensor, "),
    ],
)
def test_a_file_without_a_state_dict_is_said_to_be_one(tmp_path, content, found):
    file = saved(tmp_path / "x.pth", content)
    with pytest.raises(CheckpointError) as caught:
        load(tiny(), file)
    assert str(caught.value).startswith(
        f"'{file}' has no state dict, neither flat nor under 'state_dict' or 'model', but {found}"
    )


@pytest.mark.parametrize(
    "odd",
    [torch.empty(8, device="meta"), torch.zeros(8).to_sparse(), torch.tensor(1.0), torch.zeros(8, dtype=torch.bool)],
)
@pytest.mark.parametrize("name", ["patch_embed.proj.bias", "head.weight", "network.1.proj.weight"])
def test_odd_tensors_are_refused_or_copied_and_never_a_bug(tmp_path, odd, name):
    file = saved(tmp_path / "poolformer.pth", {**published("authors"), name: odd})
    try:
        load(tiny(), file)
    except CheckpointError as error:
        assert str(file) in str(error)  # noqa: PT017  either is right


class Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.marker),)


EVIL = {
    "beside the weights": lambda evil: {"state_dict": published("authors"), "args": evil},
    "among the weights": lambda evil: {**published("authors"), "norm.weight": evil},
    "alone": lambda evil: evil,
}
WRITERS = {
    "archive": torch.save,
    "before torch 1.6": lambda content, file: torch.save(content, file, _use_new_zipfile_serialization=False),
    "pickle": lambda content, file: file.write_bytes(pickle.dumps(content)),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("turned_off", [False, True], ids=["", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("contents", EVIL.values(), ids=EVIL)
@pytest.mark.parametrize("name", ["poolformer.pth.tar", "poolformer.ckpt", "poolformer.safetensors"])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path, monkeypatch, name, contents, write, turned_off):
    if turned_off:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    write(contents(Runs(tmp_path / "was-run")), tmp_path / name)
    with pytest.raises(CheckpointError, match=rf"{name}' is not a "):
        load(tiny(), tmp_path / name)
    assert not (tmp_path / "was-run").exists()


def test_the_payload_would_run(tmp_path):
    pickle.loads(pickle.dumps(Runs(tmp_path / "was-run")))
    assert (tmp_path / "was-run").exists()


def test_what_a_file_would_call_is_named(tmp_path):
    import argparse

    file = saved(tmp_path / "timm-train.pth.tar", {"state_dict": published("timm"), "args": argparse.Namespace(lr=1)})
    with pytest.raises(CheckpointError, match=r"as data: loading it would call argparse\.Namespace; "):
        load(tiny(), file)


def test_the_tar_format_of_the_first_torch_is_refused(tmp_path):
    with tarfile.open(tmp_path / "poolformer.pth.tar", "w") as archive:
        archive.add(saved(tmp_path / "storages", published("authors")), "storages")
    with pytest.raises(CheckpointError, match=r"files saved in the legacy \.tar format$"):
        load(tiny(), tmp_path / "poolformer.pth.tar")


# ---- timm


@pytest.mark.slow
def test_timms_networks_give_weights_to_ours_and_to_themselves(tmp_path):
    import timm

    theirs = timm.create_model("poolformer_s12").eval()
    pixels = torch.randn(1, 3, 64, 64)
    file = saved(tmp_path / "poolformer_s12.safetensors", dict(theirs.state_dict()))
    with pytest.warns(UserWarning, match="names are timm's"):
        ours = create_backbone("poolformer_s12", pretrained=str(file)).eval()
    with torch.no_grad():
        assert torch.equal(ours.forward_features(pixels), theirs.forward_features(pixels))

    theirs = timm.create_model("resnet10t").eval()
    file = saved(tmp_path / "resnet10t.pth", theirs.state_dict())
    with pytest.warns(UserWarning, match="for 1000 classes, the network for 7"):
        ours = create_backbone("timm/resnet10t", num_classes=7, pretrained=str(file)).eval()
    with torch.no_grad():
        assert torch.equal(ours.forward_features(pixels), theirs.forward_features(pixels))
    with pytest.raises(MisfitError, match=r"does not fit backbone timm/resnet14t: 30 tensors only in the network"):
        create_backbone("timm/resnet14t", pretrained=str(file))


HUB = """
import torch, warnings
warnings.simplefilter("error")
from poolformer import create_backbone
from poolformer.errors import CheckpointError

backbone = create_backbone("poolformer_s12", pretrained="timm/poolformer_s12.sail_in1k")
print(backbone.head.fc.bias.sum().item(), backbone.stages[0].blocks[0].norm1.weight.sum().item())
create_backbone("timm/poolformer_s12", pretrained="timm/poolformer_s12.sail_in1k")
for name in ("resnet18", "poolformer_s12.nobody", "nothing"):
    try:
        create_backbone("timm/resnet18", pretrained=f"timm/{name}")
    except CheckpointError as error:
        print(error)
"""


@pytest.mark.slow
def test_a_name_of_timms_hub_is_had_from_there(tmp_path):
    """From the hub's cache on disk, as the download leaves it: there is no internet in a test."""
    with torch.device("meta"):
        network = create_backbone("poolformer_s12")
    weights = {name: torch.ones(value.shape) for name, value in network.state_dict().items()}
    folder = tmp_path / "models--timm--poolformer_s12.sail_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("a" * 40)
    (folder / "snapshots" / ("a" * 40)).mkdir(parents=True)
    saved(folder / "snapshots" / ("a" * 40) / "model.safetensors", weights)
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", HUB], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, *others = done.stdout.splitlines()
    assert first == "1000.0 64.0"
    assert [line.partition(":")[0] for line in others] == [
        f"timm cannot give weights called '{name}'" for name in ("resnet18", "poolformer_s12.nobody", "nothing")
    ]
    assert all(line.endswith("; without internet, download them elsewhere and pass the file") for line in others)


@pytest.mark.slow
@pytest.mark.parametrize("named", ["as it is", "deadbeef"])
def test_what_timm_downloads_is_compared_with_the_sha256_in_its_name(tmp_path, monkeypatch, named):
    import timm

    saved(tmp_path / "x.pth", timm.create_model("test_resnet").state_dict())
    begins_with = hashlib.sha256((tmp_path / "x.pth").read_bytes()).hexdigest()[:8]
    address = tmp_path / f"test_resnet-{begins_with if named == 'as it is' else named}.pth"
    (tmp_path / "x.pth").rename(address)
    cfgs = timm.models._registry._model_pretrained_cfgs
    name = "test_resnet.r160_in1k"
    monkeypatch.setitem(cfgs, name, dataclasses.replace(cfgs[name], url=address.as_uri(), hf_hub_id=None))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    if named == "as it is":
        create_backbone("timm/test_resnet", pretrained=f"timm/{name}")
    else:
        with pytest.raises(CheckpointError, match="invalid hash value"):
            create_backbone("timm/test_resnet", pretrained=f"timm/{name}")


class MixerWithTheirNames(nn.Module):
    """A mixer whose tensors are called as others call parts of a block."""

    def __init__(self, dim):
        super().__init__()
        self.before_norm = nn.GroupNorm(1, dim)
        self.output = nn.ModuleDict({"conv1": nn.Conv2d(dim, dim, 1)})

    def forward(self, x):
        return self.output["conv1"](self.before_norm(x))


def test_a_networks_own_names_are_not_translated(tmp_path):
    options = {"depths": (1, 1, 1, 1), "dims": (4, 4, 4, 4), "num_classes": 3, "mixer": MixerWithTheirNames}
    first, second = MetaFormer(**options), MetaFormer(**options)
    load_pretrained(second, saved(tmp_path / "own.pth", first.state_dict()), name="own", mixer=MixerWithTheirNames)
    assert all(torch.equal(first.state_dict()[key], value) for key, value in second.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("file", ["identityformer_s12.pth", "weights.pth"])
def test_a_network_named_after_its_mixer_asks_nothing(tmp_path, recwarn, file):
    weights = create_backbone("identityformer_s12").state_dict()
    create_backbone("identityformer_s12", pretrained=str(saved(tmp_path / file, weights)))
    assert [str(warning.message) for warning in recwarn] == []


def test_averaged_weights_are_preferred_and_said(tmp_path):
    plain, averaged, model = tiny().state_dict(), tiny().state_dict(), tiny()
    notes = load(model, saved(tmp_path / "poolformer.pth", {"state_dict": plain, "state_dict_ema": averaged}))
    assert torch.equal(model.state_dict()["stem.conv.weight"], averaged["stem.conv.weight"])
    assert any("its averaged weights (EMA) are taken" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [("patch_embed.proj.bias", torch.inf, "stem.conv.bias"), ("network.1.proj.bias", torch.nan, "stages.1.downsample")],
)
def test_weights_that_are_no_numbers_are_said(tmp_path, name, value, said):
    weights = published("authors")
    weights[name][0] = value
    notes = load(tiny(), saved(tmp_path / "poolformer.pth", weights))
    first = rf"'.*': 1 of its {len(weights)} tensors have values that are not finite \(first '{said}"
    assert [bool(re.match(first, note)) for note in notes] == [True]


def test_a_mask_among_buffers_may_be_infinite(tmp_path):
    def masked() -> nn.Module:
        return nn.ModuleDict({"mask": nn.BatchNorm2d(2), "fc": nn.Linear(2, 2)})

    network = masked()
    network["mask"].running_mean.fill_(-torch.inf)
    assert load(masked(), saved(tmp_path / "x.pth", network.state_dict())) == []
    network["mask"].running_var[0] = torch.nan
    (note,) = load(masked(), saved(tmp_path / "x.pth", network.state_dict()))
    assert "first 'mask.running_var'" in note


def test_weights_of_half_precision_are_copied(tmp_path):
    half = {name: value.half() for name, value in published("authors").items()}
    model = tiny()
    assert load(model, saved(tmp_path / "poolformer.safetensors", half)) == []
    assert model.state_dict()["stem.conv.weight"].dtype == torch.float32
    assert torch.equal(model.state_dict()["stem.conv.weight"], half["patch_embed.proj.weight"].float())


@pytest.mark.parametrize("metadata", ["[]", "{not json", "null"])
def test_a_strangers_metadata_under_our_key_is_said_with_the_file(tmp_path, metadata):
    file = tmp_path / "poolformer.safetensors"
    save_file(published("timm"), file, metadata={RECORD: metadata})
    with pytest.raises(CheckpointError, match=r"poolformer\.safetensors': its record is not one that"):
        load(tiny(), file)
