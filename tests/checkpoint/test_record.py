"""What a checkpoint says about itself: packages, options, and what they would import."""

import contextlib
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from checkpoints import saved

from poolformer import __version__
from poolformer.checkpoint.reading import read
from poolformer.checkpoint.record import (
    RECORD,
    RENAMED,
    RUN,
    differences,
    hyper_parameters,
    import_references,
    record,
    saved_in,
)
from poolformer.classifier import ImageClassifier
from poolformer.errors import CheckpointError, OptionsError, UnknownNameError
from poolformer.registry import DISTRIBUTION

MIXER = "from torch import nn\n\n\ndef mixer(dim: int, slope: float = 0.1):\n    return nn.LeakyReLU(slope)\n"


@pytest.fixture
def plugin(fake_plugin) -> Path:
    """The package my-dist 1.0 with the token mixer ``leaky``."""
    return fake_plugin(
        entry_points={"poolformer.mixers": {"leaky": "leaky_mixer:mixer"}}, modules={"leaky_mixer": MIXER}
    )


@pytest.fixture
def backbone_plugin(fake_plugin) -> Path:
    """The package tower-dist 1.5 with the backbone ``tower``."""
    source = "from torch import nn\n\n\ndef tower(num_classes: int = 2):\n    return nn.Conv2d(3, num_classes, 1)\n"
    points = {"poolformer.backbones": {"tower": "tower_backbone:tower"}}
    return fake_plugin(name="tower-dist", version="1.5", entry_points=points, modules={"tower_backbone": source})


def test_the_record_names_the_packages_of_the_mixers(plugin):
    made = record(
        backbone="poolformer_tiny", mixer=["pooling", "leaky", {"name": "leaky"}, "identity"], class_names=["a"]
    )
    ours = made["mixers"]["pooling"]
    assert made == {
        "backbone": "poolformer_tiny",
        "backbone_origin": ours,
        "mixers": {"pooling": ours, "leaky": "my-dist 1.0", "identity": ours},
        "stages": [{"name": name} for name in ("pooling", "leaky", "leaky", "identity")],
        "class_names": ["a"],
    }
    assert ours == f"{DISTRIBUTION} {__version__}"


def test_the_record_of_a_timm_model_names_timm_and_no_mixer():
    made = record(backbone="timm/resnet18", mixer="pooling", class_names=None)
    assert (made["mixers"], made["backbone_origin"]) == ({}, f"timm {version('timm')}")


def test_the_record_names_the_package_of_the_backbone(backbone_plugin):
    made = record(backbone="tower", mixer="pooling", class_names=None)
    assert (made["backbone_origin"], made["mixers"]) == ("tower-dist 1.5", {})


def test_another_version_of_the_backbone_s_package_is_said(backbone_plugin):
    made = {RECORD: record(backbone="tower", mixer="pooling", class_names=None) | {"backbone_origin": "tower-dist 1.4"}}
    assert differences(made, backbone="tower", mixer="pooling") == [
        "the checkpoint was trained with backbone 'tower' of tower-dist 1.4; here is tower-dist 1.5"
    ]


def test_another_version_of_our_own_is_said_once():
    made = record(backbone="poolformer_s12", mixer=["pooling", "pooling", "attention", "identity"], class_names=None)
    older = {
        RECORD: {
            **made,
            "backbone_origin": "poolformer 0.0.1",
            "mixers": dict.fromkeys(made["mixers"], "poolformer 0.0.1"),
        }
    }
    (said,) = differences(older, backbone="poolformer_s12", mixer=["pooling", "pooling", "attention", "identity"])
    assert f"of {DISTRIBUTION} 0.0.1; here is {DISTRIBUTION} " in said


def test_a_record_from_before_backbones_had_an_origin_is_read(plugin):
    made = record(backbone="poolformer_s12", mixer="leaky", class_names=None)
    del made["backbone_origin"]
    assert differences({RECORD: made}, backbone="poolformer_s12", mixer="leaky") == []
    assert hyper_parameters({RECORD: made}) == {}


def test_the_record_is_plain_data(tmp_path, plugin):
    made = record(backbone="poolformer_tiny", mixer="leaky", class_names=["a"])
    assert read(saved(tmp_path / "x.ckpt", {RECORD: made}))[RECORD] == made


def test_a_model_writes_its_record_into_its_checkpoints(plugin):
    model = ImageClassifier("poolformer_tiny", num_classes=2, mixer={"name": "leaky", "slope": 0.2}, image_size=8)
    model.class_names = ["cat", "dog"]
    written: dict[str, Any] = {}
    model.on_save_checkpoint(written)
    assert written == {
        RECORD: {
            "backbone": "poolformer_tiny",
            "backbone_origin": f"{DISTRIBUTION} {__version__}",
            "mixers": {"leaky": "my-dist 1.0"},
            "stages": [{"name": "leaky", "slope": 0.2}] * 4,
            "class_names": ["cat", "dog"],
            "frame": {
                "mixer": {"name": "leaky", "slope": 0.2},
                "norm": "group",
                "act": "gelu",
                "residual": True,
                "channel_mlp": True,
                "layer_scale_init": 1.0,
                "drop_path_rate": 0.0,
                "position_embedding": None,
            },
        }
    }


def test_equal_records_do_not_differ():
    made = {RECORD: record(backbone="poolformer_s12", mixer="pooling", class_names=None)}
    assert differences(made, backbone="poolformer_s12", mixer=["pooling", {"name": "pooling"}] * 2) == []


def test_a_record_under_the_former_name_of_our_package_is_of_the_same():
    made = record(backbone="poolformer_s12", mixer="pooling", class_names=None)
    of_before = made | {
        "backbone_origin": f"poolformer {__version__}",
        "mixers": {"pooling": f"poolformer {__version__}"},
    }
    assert differences({RECORD: of_before}, backbone="poolformer_s12", mixer="pooling") == []
    assert hyper_parameters({RECORD: of_before}) == {}
    of_before["mixers"] = {"gone": "poolformer 9.0"}
    with pytest.raises(CheckpointError, match=r"pip install poolformer-lightning==9\.0"):
        hyper_parameters({RECORD: of_before})


def test_differences_are_said_one_by_one(plugin):
    made = {RECORD: record(backbone="poolformer_s12", mixer=["leaky", "leaky", "pooling", "pooling"], class_names=None)}
    made[RECORD]["mixers"]["leaky"] = "my-dist 0.9"
    assert differences(made, backbone="poolformer_s24", mixer="leaky") == [
        "the checkpoint was trained with backbone 'poolformer_s12', not 'poolformer_s24'",
        "the checkpoint was trained with token mixer 'leaky' of my-dist 0.9; here is my-dist 1.0",
        f"the checkpoint was trained with token mixer 'pooling' ({made[RECORD]['mixers']['pooling']}), not 'leaky'",
    ]


def test_a_checkpoint_without_a_record_says_so():
    assert differences({}, backbone="poolformer_s12", mixer="pooling") == [
        "the checkpoint does not say which backbone and token mixer it was trained with"
    ]


def test_hyper_parameters_are_the_arguments_of_the_model():
    made = {
        "hyper_parameters": {"lr": 0.1, "mixer": {"name": "pooling"}, "_instantiator": "os.system", "_class_path": "x"}
    }
    assert hyper_parameters(made) == {"lr": 0.1, "mixer": {"name": "pooling"}}
    assert hyper_parameters({}) == {}


def test_a_missing_plugin_is_named_with_the_command_that_installs_it():
    made = {RECORD: {"backbone": "poolformer_s12", "mixers": {"gone": "gone-dist 2.0"}, "class_names": None}}
    with pytest.raises(CheckpointError) as caught:
        hyper_parameters(made)
    assert str(caught.value).startswith(
        "this checkpoint was trained with token mixer 'gone' of gone-dist 2.0, which is not installed here: "
        "pip install gone-dist==2.0 (UnknownNameError: no token mixer is called 'gone'."
    )
    assert isinstance(caught.value.__cause__, UnknownNameError)


def test_a_missing_plugin_with_the_backbone_is_named_likewise():
    made = {RECORD: {"backbone": "gone", "backbone_origin": "gone-dist 2.0", "mixers": {}, "class_names": None}}
    with pytest.raises(CheckpointError) as caught:
        hyper_parameters(made)
    assert str(caught.value).startswith(
        "this checkpoint was trained with backbone 'gone' of gone-dist 2.0, which is not installed here: "
        "pip install gone-dist==2.0 (UnknownNameError: no backbone is called 'gone'."
    )


def test_a_renamed_option_is_read_by_its_present_name(monkeypatch):
    monkeypatch.setitem(RENAMED, "learning_rate", "lr")
    assert hyper_parameters({"hyper_parameters": {"learning_rate": 0.5, "mixup": 0.1}}) == {"lr": 0.5, "mixup": 0.1}


@pytest.mark.parametrize(
    ("spec", "names"),
    [
        ("pooling", []),
        ("a.b:C", ["a.b:C"]),
        ({"name": "a:B", "size": 3}, ["a:B"]),
        (["pooling", "a:B", {"name": "c:D"}, "identity"], ["a:B", "c:D"]),
        (("a:B",) * 2, ["a:B", "a:B"]),
        ({"name": "pooling", "pool_size": 5, "scale": 0.5, "rate": "1e-3", "mode": "same"}, []),
        ({"name": "p", "act": "torch.nn.GELU"}, ["torch.nn.GELU"]),
        ({"name": "p", "act": {"class_path": "a.B", "init_args": {"x": [1, "c.D"]}}}, ["c.D", "a.B"]),
        ({"name": "p", "act": "{class_path: a.B}"}, ["{class_path: a.B}"]),
        (None, []),
        (3, []),
    ],
)
def test_names_that_would_be_imported_are_found_in_every_spelling(spec, names):
    assert import_references(spec) == names


def test_plugins_that_are_turned_off_are_said_to_be(plugin, monkeypatch):
    made = {RECORD: record(backbone="poolformer_s12", mixer="leaky", class_names=None)}
    assert hyper_parameters(made) == {}
    monkeypatch.setenv("POOLFORMER_DISABLE_PLUGINS", "1")
    with pytest.raises(
        CheckpointError, match=r"pip install my-dist==1\.0 \(.* turned off by POOLFORMER_DISABLE_PLUGINS"
    ):
        hyper_parameters(made)


FOREIGN = {
    "record is a text": {RECORD: "by hand"},
    "record without mixers and backbone": {RECORD: {}},
    "mixers is a list": {RECORD: {"backbone": "poolformer_s12", "mixers": ["pooling"], "class_names": None}},
    "origin is a number": {RECORD: {"backbone": "poolformer_s12", "mixers": {"gone": 3}, "class_names": None}},
    "origin is a command": {
        RECORD: {"backbone": "poolformer_s12", "mixers": {"gone": "x;reboot 1"}, "class_names": None}
    },
    "origin is an option of pip": {
        RECORD: {"backbone": "poolformer_s12", "mixers": {"gone": "--index-url=http://x y"}, "class_names": None}
    },
    "origin has a second line": {
        RECORD: {"backbone": "gone", "backbone_origin": "a 1\nb", "mixers": {}, "class_names": None}
    },
    "class names are numbers": {RECORD: {"backbone": "poolformer_s12", "mixers": {}, "class_names": [1]}},
    "class names are a text": {RECORD: {"backbone": "poolformer_s12", "mixers": {}, "class_names": "abc"}},
    "hyper-parameters are a list": {"hyper_parameters": [1]},
    "hyper-parameters are by number": {"hyper_parameters": {1: 2}},
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_foreign_contents_are_an_error_of_ours(content):
    with pytest.raises(CheckpointError):
        use(content)


def use(content: dict[str, Any]) -> None:
    differences(content, backbone="poolformer_s12", mixer="pooling")
    hyper_parameters(content)


def test_an_import_reference_of_a_checkpoint_is_not_imported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "came_along.py").write_text("open('was-run', 'w').close()\ndef mixer(dim): ...\n")
    made = {RECORD: {"backbone": "poolformer_s12", "mixers": {"came_along:mixer": ""}, "class_names": None}}
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        with contextlib.suppress(CheckpointError):
            hyper_parameters(made)
    finally:
        sys.modules.pop("came_along", None)
    assert not (tmp_path / "was-run").exists()


def test_options_of_a_checkpoint_are_checked_where_they_are_used():
    # The record has names alone; options stand with the hyper-parameters and meet the parser.
    made = {RECORD: record(backbone="poolformer_s12", mixer="pooling", class_names=None)}
    with pytest.raises(OptionsError, match="has no option 'poolsize'"):
        differences(made, backbone="poolformer_s12", mixer={"name": "pooling", "poolsize": 5})


def test_a_run_on_a_file_of_turned_images_turned_them_without_the_option():
    data = {"datamodule_hyper_parameters": {"orient": False}}
    assert saved_in({RUN: {"images_turned": True}, **data}).orient
    assert not saved_in({RUN: {"images_turned": False}, **data}).orient
    assert not saved_in(data).orient
