"""Networks that take something else than images, through the model, the counter and the trainer."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from poolformer.classifier import ImageClassifier
from poolformer.errors import ConfigError, DataError
from poolformer.network.complexity import count
from poolformer.network.example import example_input, own_example, rolled
from poolformer.run.pictures import FirstBatch, ValidationPictures


class Tokens(nn.Module):
    """Numbers of tokens (B, 1, L) to logits (B, K)."""

    def __init__(self, num_classes: int, length: int = 6):
        super().__init__()
        self.length = length
        self.embedding = nn.Embedding(300, 4)
        self.fc = nn.Linear(4, num_classes)

    def example_input(self) -> Tensor:
        return torch.zeros(1, 1, self.length, dtype=torch.long)

    def forward(self, tokens: Tensor) -> Tensor:
        assert tokens.dtype == torch.long
        return self.fc(self.embedding(tokens[:, 0]).mean(1))


class Spectra(Tokens):
    """Floats (B, 1, L)."""

    def example_input(self) -> Tensor:
        return torch.zeros(1, 1, self.length)

    def forward(self, spectra: Tensor) -> Tensor:
        return self.fc(spectra[:, 0, :4])


@pytest.fixture(autouse=True)
def installed(fake_plugin):
    points = {"poolformer.backbones": {"tokens": f"{__name__}:Tokens", "spectra": f"{__name__}:Spectra"}}
    fake_plugin(name="of-tokens", entry_points=points)


def trainer(**options) -> pl.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "log_every_n_steps": 1}
    return pl.Trainer(max_epochs=1, accelerator="cpu", **{**quiet, **options})


def model(backbone: str = "tokens", **options) -> ImageClassifier:
    plain = {"mixup": 0.0, "cutmix": 0.0, "erase_prob": 0.0}
    return ImageClassifier(backbone, num_classes=3, warmup_epochs=0, cooldown_epochs=0, **{**plain, **options})


class Data(pl.LightningDataModule):
    """The same inputs in every stage, with labels from 0 to 2."""

    batch_size = 4

    def __init__(self, inputs: Tensor):
        super().__init__()
        self.samples = TensorDataset(inputs, torch.arange(len(inputs)) % 3)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.samples, batch_size=self.batch_size)

    val_dataloader = predict_dataloader = train_dataloader


TOKENS = torch.arange(48).reshape(8, 1, 6) * 5


def test_tokens_reach_the_network_as_they_are():
    module, runs = model(), trainer()
    runs.fit(module, datamodule=Data(TOKENS))
    assert runs.global_step == 2
    assert 0 <= runs.callback_metrics["val/top1"] <= 1
    (probabilities, *_) = runs.predict(module, datamodule=Data(TOKENS))
    torch.testing.assert_close(probabilities, module.eval()(TOKENS[:4]).softmax(1))


def test_a_run_of_tokens_has_the_pictures_that_are_of_no_image(tmp_path):
    board = TensorBoardLogger(tmp_path, name="", version="", default_hp_metric=False)
    runs = trainer(logger=board, callbacks=[FirstBatch(), ValidationPictures()])
    runs.fit(model(), datamodule=Data(TOKENS))
    tags = EventAccumulator(str(tmp_path)).Reload().Tags()["images"]
    assert set(tags) == {"val/confusion", "val/classes", "val/calibration"}


def test_floats_of_one_s_own_are_neither_normalised_nor_changed_in_place():
    inputs = 100 * torch.randn(8, 1, 6)
    before = inputs.clone()
    module, runs = model("spectra", mixup=0.8), trainer()
    runs.fit(module, datamodule=Data(inputs))
    assert torch.equal(inputs, before)
    (probabilities, *_) = runs.predict(module, datamodule=Data(inputs))
    torch.testing.assert_close(probabilities, module.eval()(inputs[:4]).softmax(1))


@pytest.mark.parametrize(
    "inputs", [TOKENS.float(), TOKENS[:, 0], TOKENS.expand(-1, 2, -1)], ids=["type", "axes", "channels"]
)
def test_other_inputs_than_the_example_are_refused_in_a_line(inputs):
    with pytest.raises(DataError, match=r"expected are int64 \(B, 1, 6\), as the network's example_input\(\)"):
        trainer().fit(model(), datamodule=Data(inputs))


@pytest.mark.parametrize("option", ["mixup", "cutmix", "erase_prob"])
def test_tokens_are_not_blended(option):
    with pytest.raises(ConfigError, match="numbers of tokens, which cannot be blended: turn off"):
        trainer().fit(model(**{option: 0.5}), datamodule=Data(TOKENS))


def test_it_is_counted_on_its_example():
    assert count(Tokens(10), image_size=224).macs == 4 * 10
    assert example_input(Tokens(10), image_size=224).shape == (1, 1, 6)


def test_an_example_rolled_gives_samples_of_the_same_values_none_like_another():
    batch = rolled(torch.arange(6).reshape(1, 1, 6), 3)
    assert batch.tolist() == [[[0, 1, 2, 3, 4, 5]], [[5, 0, 1, 2, 3, 4]], [[4, 5, 0, 1, 2, 3]]]


def test_an_image_is_the_example_of_all_others():
    network = nn.Linear(2, 2).double().to("meta")
    image = example_input(network, image_size=32)
    assert (image.shape, image.dtype, image.device.type) == ((1, 3, 32, 32), torch.float64, "meta")
    assert own_example(network) is None


@pytest.mark.parametrize("example", [None, torch.zeros(2, 3), torch.zeros(1)], ids=["none", "two", "no axis"])
def test_an_example_that_is_no_sample_is_refused(example):
    network = nn.Identity()
    network.example_input = lambda: example
    with pytest.raises(
        ConfigError, match=r"Identity.example_input\(\) returned .*, in place of a tensor of one sample"
    ):
        own_example(network)
