"""What a verb takes from a checkpoint is found out once: whose run it is, where that stands, what it was made with."""

import shutil
from pathlib import Path

import pytest
import torch
from command_line import LAST

from poolformer.checkpoint.reading import read
from poolformer.errors import CheckpointError
from poolformer.run.resume import plan


@pytest.mark.slow
def test_last_of_the_same_directory_is_the_same_run(trained):
    resume = plan("last", trained)
    assert (resume.path, resume.same_run, resume.from_last) == (trained / LAST, True, True)
    assert resume.step == resume.purge_step == read(trained / LAST)["global_step"]
    assert resume.model["mixer"] == "depthwise"
    assert resume.trained_on == "poolformer.data.DigitsData"
    assert resume.data_section["data"]["init_args"]["batch_size"] == 32


@pytest.mark.slow
def test_best_is_the_same_run_and_leaves_last_behind(trained):
    resume = plan("best", trained)
    assert (resume.same_run, resume.from_last) == (True, False)


def test_a_checkpoint_of_elsewhere_is_another_run_whose_curves_stay(trained, tmp_path):
    resume = plan(str(trained / LAST), tmp_path)
    assert (resume.same_run, resume.from_last, resume.purge_step) == (False, False, None)
    assert resume.step > 0


def test_a_link_to_the_directory_is_the_same_run(trained, tmp_path):
    (tmp_path / "link").symlink_to(trained)
    assert plan("last", tmp_path / "link").same_run


def test_options_of_another_s_data_module_are_not_taken(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "run")
    saved = read(tmp_path / "run" / LAST)
    saved["datamodule_hyper_parameters"]["_class_path"] = "mine.Data"
    torch.save(saved, tmp_path / "run" / LAST)
    resume = plan("last", tmp_path / "run")
    assert (resume.trained_on, resume.data, resume.data_section) == ("mine.Data", {}, None)


@pytest.mark.parametrize(("mixer", "named"), [("came.along:Mixer", "pooling"), ("came.along:Mixer", None)])
def test_what_a_checkpoint_would_import_has_to_be_named(trained, tmp_path, mixer, named):
    shutil.copytree(trained, tmp_path / "run")
    saved = read(tmp_path / "run" / LAST)
    saved["hyper_parameters"]["mixer"] = mixer
    torch.save(saved, tmp_path / "run" / LAST)
    resume = plan("last", tmp_path / "run")
    resume.check_imports({"mixer": mixer, "backbone": "poolformer_tiny"})
    with pytest.raises(CheckpointError, match=r"came\.along:Mixer, a module that you have to vouch for: add --model"):
        resume.check_imports({"mixer": named, "backbone": "poolformer_tiny"})


def test_a_directory_without_a_run_has_nothing_to_resume(tmp_path):
    with pytest.raises(CheckpointError, match="has no 'last' checkpoint"):
        plan("last", Path(tmp_path))
