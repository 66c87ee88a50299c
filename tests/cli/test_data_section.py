"""What a configuration says about data, turned over to the data module that is asked for."""

import pytest
import yaml

from poolformer.cli import dispatch
from poolformer.cli.data_section import (
    chosen_class,
    class_path,
    has_image_size,
    image_size_of,
    named,
    of_class,
    with_class_paths,
)
from poolformer.errors import AmbiguousNameError, BrokenPluginError
from poolformer.registry import DATA

TINY = '''
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset


class TinyData(LightningDataModule):
    """Noise of two classes.

    Args:
        level: Brightest of its levels.
        batch_size: Images a device and step.
    """

    def __init__(self, level: int = 255, batch_size: int = 4):
        super().__init__()
        self.save_hyperparameters()
        self.batch_size = batch_size

    def train_dataloader(self):
        images = torch.randint(0, self.hparams.level + 1, (8, 3, 8, 8), dtype=torch.uint8)
        return DataLoader(TensorDataset(images, torch.arange(8) % 2), batch_size=self.batch_size)

    val_dataloader = train_dataloader
'''

DIGITS, FOLDER = "poolformer.data.DigitsData", "poolformer.data.FolderData"


def test_our_names_are_short():
    assert class_path("DigitsData") == DIGITS
    assert class_path("mine.Data") == "mine.Data"


@pytest.mark.parametrize(
    ("contents", "flags", "expected"),
    [
        ([], [], None),
        ([{"data": "FolderData"}], [], FOLDER),
        ([{"data": {"class_path": "FolderData"}}, {"model": {}}], [], FOLDER),
        ([{"data": "FolderData"}, {"data": "DigitsData"}], [], DIGITS),
        ([{"data": "FolderData"}], ["--data", "DigitsData"], DIGITS),
        ([], ["--data=mine.Data", "--data.class_path", "FolderData"], FOLDER),
        ([], ["--data"], None),
    ],
)
def test_the_last_one_named_counts_and_flags_win(contents, flags, expected):
    assert named(contents, flags) == expected


@pytest.mark.parametrize(("name", "expected"), [("mine.Data", "mine.Data"), ("Mine", None), ("a/b.py", None)])
def test_a_class_is_chosen_by_its_full_path(name, expected):
    assert chosen_class([{"data": name}], []) == expected


def test_options_that_the_other_module_does_not_have_are_left_behind():
    content = {"data": {"class_path": "DigitsData", "init_args": {"batch_size": 7, "shift": 0.5}}, "model": {}}
    assert of_class(content, FOLDER) == {"data": {"class_path": FOLDER, "init_args": {"batch_size": 7}}, "model": {}}
    assert of_class(content, DIGITS)["data"]["init_args"] == {"batch_size": 7, "shift": 0.5}
    assert of_class(content, None) is content


def test_the_size_of_images_is_that_of_the_data():
    assert has_image_size(DIGITS)
    assert image_size_of({"init_args": {"image_size": 8}}) == 8
    assert image_size_of(None) == 224


# ---- data modules of plugins


@pytest.fixture
def tiny(fake_plugin):
    """Install a package with a data module called `tiny`, which works unless said otherwise."""

    def install(name="tiny-dist", source=TINY, module="tiny_dist"):
        points = {DATA: {"tiny": f"{module}:TinyData"}}
        return fake_plugin(name=name, entry_points=points, modules={module: source})

    return install


def test_a_plugin_is_asked_for_by_name_or_with_its_package(tiny):
    tiny()
    for name in ("tiny", "tiny-dist/tiny", "Tiny_Dist/tiny"):
        assert class_path(name) == "tiny_dist.TinyData"
    assert chosen_class([{"data": {"class_path": "tiny"}}], []) == "tiny_dist.TinyData"
    assert class_path("poolformer/FolderData") == FOLDER
    assert class_path("images/tiny") == "images/tiny"  # a folder


def test_flags_say_the_full_path(tiny):
    tiny()
    assert with_class_paths(["--data", "tiny", "--data.level", "tiny"]) == [
        *("--data", "tiny_dist.TinyData", "--data.level", "tiny")
    ]
    assert with_class_paths(["--data=tiny", "--data.class_path=FolderData", "--data"]) == [
        *("--data=tiny_dist.TinyData", f"--data.class_path={FOLDER}", "--data")
    ]


def test_of_two_plugins_with_one_name_neither_gets_it_and_ours_keep_theirs(tiny, fake_plugin):
    tiny()
    tiny("other-dist", module="other_dist")
    with pytest.raises(
        AmbiguousNameError, match=r"data module 'tiny' is offered by other-dist 1\.0 and tiny-dist 1\.0;"
    ):
        class_path("tiny")
    assert class_path("other-dist/tiny") == "other_dist.TinyData"
    fake_plugin(name="loud", entry_points={DATA: {"FolderData": "tiny_dist:TinyData"}})
    assert (class_path("FolderData"), class_path("loud/FolderData")) == (FOLDER, "tiny_dist.TinyData")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (
            "import a_missing_dependency",
            "cannot be loaded: ModuleNotFoundError: No module named 'a_missing_dependency'",
        ),
        ("raise SystemExit(0)", "cannot be loaded: SystemExit: 0"),
        ("TinyData = dict", "is none: tiny_dist.TinyData is no data module, a class that inherits lightning.pytorch's"),
        ("def TinyData(): ...", "is none: tiny_dist.TinyData is no data module"),
    ],
)
def test_a_broken_plugin_is_named_and_harms_only_who_asks_for_it(tiny, source, found, capsys):
    tiny(source=source)
    assert class_path("FolderData") == FOLDER
    with pytest.raises(BrokenPluginError) as caught:
        class_path("tiny")
    assert str(caught.value).startswith(f"data module 'tiny' of tiny-dist 1.0 (tiny_dist:TinyData) {found}")
    assert dispatch.main(["fit", "--data", "tiny"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "near"), [("tinny", "tiny"), ("tiny-dist/tinny", "tiny"), ("FolderDta", "FolderData")]
)
def test_a_typing_error_gets_a_suggestion(tiny, name, near, capsys, tmp_path, monkeypatch):
    tiny()
    monkeypatch.chdir(tmp_path)
    assert dispatch.main(["fit", "--data", name]) == 2
    found = capsys.readouterr().err
    assert found.count("\n") == 1
    start = f"poolformer: error: no data module is called '{name}'. Did you mean '{near}'"
    assert found.startswith(start)
    assert "Installed: DigitsData, FFCVData, FolderData, " in found


def test_plugins_that_are_turned_off_are_said_to_be(tiny, capsys, tmp_path, monkeypatch):
    tiny()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POOLFORMER_DISABLE_PLUGINS", "1")
    assert dispatch.main(["fit", "--data", "tiny"]) == 2
    assert "Plugins are turned off by POOLFORMER_DISABLE_PLUGINS" in capsys.readouterr().err


def test_help_shows_the_options_of_a_plugin(tiny, capsys):
    tiny()
    with pytest.raises(SystemExit):
        dispatch.main(["fit", "--data", "tiny", "--help"])
    text = capsys.readouterr().out
    assert "Options of --data tiny_dist.TinyData; there is DigitsData, FFCVData, FolderData, tiny." in " ".join(
        text.split()
    )
    assert "--data.level N" in text
    assert "Brightest of its levels." in text


@pytest.mark.slow
def test_a_run_with_a_plugin_s_data_is_run_again_from_its_config_and_its_checkpoint(tiny, fit, tmp_path, capsys):
    tiny()
    (tmp_path / "mine.yaml").write_text("data: {class_path: tiny, init_args: {level: 9}}\nmodel: {image_size: 8}\n")
    short = [
        "--trainer.max_epochs",
        1,
        "--model.warmup_epochs",
        0,
        "--model.cooldown_epochs",
        0,
        "--model.num_classes",
        2,
        "--model.image_size",
        8,
    ]
    base = ["--model.backbone", "poolformer_tiny", "--trainer.accelerator", "cpu", "--trainer.log_every_n_steps", "1"]
    assert fit("run", "--config", "mine.yaml", *short, base=base) == 0
    saved = yaml.safe_load((tmp_path / "run/config.yaml").read_text())["data"]
    assert saved == {"class_path": "tiny_dist.TinyData", "init_args": {"level": 9, "batch_size": 4}}
    assert fit("again", "--config", "run/config.yaml", base=[]) == 0
    capsys.readouterr()
    words = ["validate", "--ckpt_path", "run/checkpoints/last.ckpt"]
    assert dispatch.main([*words, "--config", "run/config.yaml"]) == 0
    assert "data  tiny_dist.TinyData" in capsys.readouterr().out
    # Options of somebody's class may name code: a checkpoint's are not read.
    assert dispatch.main(words) == 2
    assert "was trained on tiny_dist.TinyData, a data module that you have to vouch for" in capsys.readouterr().err
