"""What TensorBoard says of a run beside its curves, read as TensorBoard reads it."""

import re
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from poolformer.classifier import ImageClassifier
from poolformer.data import DigitsData
from poolformer.run.run_summary import LAYOUT, RunSummary, worded


def run(folder: Path, **options: Any) -> pl.Trainer:
    """A trainer of two batches that says little."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    few = {"limit_train_batches": 1, "limit_val_batches": 1, "enable_checkpointing": False, "log_every_n_steps": 1}
    return pl.Trainer(accelerator="cpu", default_root_dir=folder, **{**quiet, **few, **options})


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def tiny(**options: Any) -> ImageClassifier:
    fast = {"image_size": 8, "warmup_epochs": 0, "cooldown_epochs": 0}
    return ImageClassifier("poolformer_tiny", 10, **fast, **options)


@pytest.fixture(scope="module")
def summarised(tmp_path_factory) -> Path:
    """The folder of a run of two epochs with a summary."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    logger = TensorBoardLogger(folder, name="", version="", default_hp_metric=False)
    trainer = run(folder, logger=logger, max_epochs=2, callbacks=[RunSummary()])
    trainer.fit(tiny(mixer={"name": "pooling", "pool_size": 5}, lr=1e-3), datamodule=DigitsData(batch_size=6))
    return folder


def text(folder: Path, tag: str) -> str:
    (event,) = events(folder).Tensors(f"{tag}/text_summary")
    return event.tensor_proto.string_val[0].decode()


def hparams(folder: Path) -> dict[str, HParamsPluginData]:
    found = events(folder).PluginTagToContent("hparams").items()
    return {tag: HParamsPluginData.FromString(metadata) for tag, metadata in found}


def test_the_summary_says_what_is_trained(summarised):
    said = text(summarised, "model")
    parameters = sum(parameter.numel() for parameter in tiny().parameters())
    assert "| backbone | poolformer_tiny |" in said
    assert "| mixer | pooling with pool_size 5 |" in said
    assert f"| parameters | {parameters:,} |" in said
    assert re.search(r"\| MACs \| [\d,]{7,} at 8 x 8 \|", said)
    assert "stages.0" in said  # the layers


def test_the_summary_says_by_what_and_on_which_data(summarised):
    assert re.search(r"\| command \| \S+", text(summarised, "run"))
    assert "torch " in text(summarised, "run")
    data = text(summarised, "data")
    assert "| train_images | 1437 |" in data
    assert "| val_images | 360 |" in data
    assert "| class_path | poolformer.data.DigitsData |" in data


def test_the_hyper_parameters_are_plain_columns(summarised):
    values = hparams(summarised)["_hparams_/session_start_info"].session_start_info.hparams
    assert values["lr"].number_value == pytest.approx(1e-3)
    assert values["backbone"].string_value == "poolformer_tiny"
    assert values["layer_scale_init"].number_value == 1  # the backbone's own
    assert values["mixer"].string_value == "pooling"
    assert values["mixer.pool_size"].number_value == 5
    assert values["batch_size"].number_value == 6  # the data module's
    assert not [name for name in values if name.startswith("_")]


def test_columns_are_left_to_tensorboard_which_shows_first_those_that_differ(tmp_path, summarised):
    """Read by TensorBoard itself, as its page of hyper-parameters does."""
    assert "_hparams_/experiment" not in hparams(summarised)
    other = tmp_path / "other"
    logger = TensorBoardLogger(other, name="", version="", default_hp_metric=False)
    trainer = run(other, logger=logger, max_epochs=1, callbacks=[RunSummary()])
    trainer.fit(tiny(mixer="identity"), datamodule=DigitsData(batch_size=6))
    (tmp_path / "first").symlink_to(summarised)
    experiment = of_tensorboard(tmp_path)
    differ = [info.name for info in experiment.hparam_infos if info.differs]
    assert differ[0] == "max_epochs"
    assert "mixer" in differ
    assert [info.name for info in experiment.hparam_infos][: len(differ)] == differ
    assert experiment.metric_infos[0].name.tag == "best/top1"


def of_tensorboard(folder: Path) -> Any:
    """What the page of hyper-parameters gets of the runs in a folder."""
    from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins.base_plugin import TBContext
    from tensorboard.plugins.hparams.backend_context import Context

    runs = EventMultiplexer({path.name: str(path) for path in folder.iterdir()})
    runs.Reload()
    context = Context(TBContext(data_provider=MultiplexerDataProvider(runs, str(folder))))
    metadata = context.hparams_metadata(RequestContext(), "all")
    return context.experiment_from_metadata(RequestContext(), "all", True, metadata, [])


def test_the_layout_opens_on_loss_and_accuracy(summarised):
    found = Layout.FromString(events(summarised).Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert [category.title for category in found.category] == list(LAYOUT)
    first = {chart.title: list(chart.multiline.tag) for chart in found.category[0].chart}
    assert first["loss"] == ["^train/loss$", "^val/loss$"]
    tags = events(summarised).Tags()["scalars"]
    shown = [tag for chart in first.values() for pattern in chart for tag in tags if re.match(pattern, tag)]
    assert {"train/loss", "val/loss", "val/top1", "best/top1"} <= set(shown)


def test_the_best_accuracy_has_a_point_at_each_validation(summarised):
    top1, best = (events(summarised).Scalars(tag) for tag in ("val/top1", "best/top1"))
    assert [event.step for event in top1] == [event.step for event in best] == [0, 1]
    assert best[1].value == max(event.value for event in top1)


@pytest.mark.parametrize("loggers", [1, 2], ids=["one", "several"])
def test_the_summary_is_content_with_other_loggers(tmp_path, loggers):
    others = [CSVLogger(tmp_path, name=str(number)) for number in range(loggers)]
    run(tmp_path, max_epochs=1, logger=others, callbacks=[RunSummary()]).fit(
        tiny(), datamodule=DigitsData(batch_size=6)
    )
    assert not list(tmp_path.rglob("events.out*"))
    assert "best/top1" in (tmp_path / "0" / "version_0" / "metrics.csv").read_text()


def test_mixers_and_optimisers_are_named_with_their_options():
    assert worded({"name": "pooling"}) == "pooling"
    assert worded({"name": "attention", "head_dim": 32}) == "attention with head_dim 32"
    assert worded(["pooling", {"name": "identity"}]) == "pooling / identity"
    assert (worded(0.1), worded(None), worded({"a": 1})) == ("0.1", "None", "{'a': 1}")
