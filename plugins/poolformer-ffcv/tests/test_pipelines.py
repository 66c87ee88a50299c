"""Pipelines as YAML writes them: whatever is wrong with one is a line, before anything could hang."""

import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from ffcv import transforms
from ffcv.fields import decoders
from ffcv.pipeline.operation import Operation
from poolformer_ffcv.data import FFCVLoaderData
from poolformer_ffcv.pipelines import built

from poolformer.errors import DataError

CROP = {"class_path": "ffcv.fields.rgb_image.RandomResizedCropRGBImageDecoder", "init_args": {"output_size": [16, 16]}}


class Nothing(torch.nn.Module):
    def forward(self, images): ...


MINE = """
from ffcv.pipeline.operation import Operation


class Mine(Operation):
    def __init__(self, number: int, *, fails: bool = False):
        super().__init__()
        if fails:
            raise ValueError("no such number")
        self.number = number

    def generate_code(self): ...
    def declare_state_and_memory(self, previous_state): ...
"""


def test_operations_are_named_by_class_path_or_by_ffcv_s_name_alone():
    made = built([CROP, "ToTensor", "ffcv.transforms.ToTorchImage", torch.nn.Identity()], "x")
    assert isinstance(made[0], decoders.RandomResizedCropRGBImageDecoder)
    assert made[0].output_size == (16, 16)
    assert [type(each).__name__ for each in made[1:]] == ["ToTensor", "ToTorchImage", "Identity"]


def test_options_are_what_the_operations_expect():
    normalise = {"mean": [1, 2, 3], "std": [4, 5, 6], "type": "float32"}
    dims, device = {"dims": [1]}, {"device": "cpu"}
    options = [
        ("NormalizeImage", normalise),
        ("Squeeze", dims),
        ("ToDevice", device),
        ("Convert", {"target_dtype": "torch.float16"}),
    ]
    made = built([{"class_path": name, "init_args": each} for name, each in options], "x")
    assert made[0].lookup_table.dtype == np.float32
    assert made[1].dims == (1,)
    assert made[2].device == torch.device("cpu")
    assert made[3].target_dtype is torch.float16
    nested = {"class_path": "ModuleWrapper", "init_args": {"module": {"class_path": "torch.nn.Flatten"}}}
    assert isinstance(built([nested], "x")[0].module, torch.nn.Flatten)


def test_operations_in_the_current_directory_are_found(tmp_path, monkeypatch):
    (tmp_path / "my_operation.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    try:
        assert built([{"class_path": "my_operation.Mine", "init_args": {"number": 3}}], "x")[0].number == 3
        with pytest.raises(
            DataError, match=r"x, operation 1: Mine cannot be built: ValueError: no such number \(my_op"
        ):
            built([{"class_path": "my_operation.Mine", "init_args": {"number": 3, "fails": True}}], "x")
    finally:
        sys.modules.pop("my_operation", None)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ([], "x is empty: name its operations"),
        ("ToTensor", "x is 'ToTensor', and should be a list of operations"),
        ([3], "x, operation 1 is 3, and should be a class path"),
        (["ToTensr"], r"there is no operation 'ToTensr' in ffcv; .* Did you mean 'ToTensor'\?"),
        (["ffcv.transforms.ToTensr"], r"no operation 'ToTensr' in 'ffcv\.transforms'\. Did you mean 'ToTensor'\?"),
        (["no.such.Operation"], "'no.such.Operation' cannot be imported: ModuleNotFoundError: No module named 'no'"),
        (["os.system"], "'os.system' is no operation, a class of ffcv's Operation or torch's Module"),
        (["ffcv.loader.Loader"], "'ffcv.loader.Loader' is no operation"),
        (["NormalizeImage"], "NormalizeImage needs mean, std, type: add them to its init_args"),
        ([CROP, "ToTensor", {"class_path": "Cutout", "init_args": {"crop": 3}}], "3: Cutout has no option 'crop'"),
        ([{"class_path": "ToTensor", "init_args": [1]}], r"init_args of ToTensor are \[1\], and should be"),
        ([{"class_path": "ToTensor", "args": {}}], "x, operation 1 has 'args' beside class_path"),
        ([{"class_path": "ToDevice", "init_args": {"device": "gpu"}}], "ToDevice cannot be built: RuntimeError"),
        ([{"class_path": "Convert", "init_args": {"target_dtype": "torch.float17"}}], "cannot be built: AttributeErr"),
    ],
)  # fmt: skip
def test_what_is_no_pipeline_is_a_line(written, message):
    with pytest.raises(DataError, match=message) as caught:
        built(written, "x")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", torch.device("cuda")])
def test_a_gpu_that_is_not_there_is_a_line(device):
    with pytest.raises(DataError, match=r"ToDevice\('cuda(:0)?'\), but there is no GPU: leave it out"):
        built([{"class_path": "ToDevice", "init_args": {"device": device}}], "x")


NORMALISE = {"class_path": "NormalizeImage", "init_args": {"mean": [0, 0, 0], "std": [1, 1, 1], "type": "float32"}}


@pytest.mark.parametrize("behind", [["ToTensor"], ["ToTensor", "ToTorchImage"]], ids=len)
def test_a_compiled_operation_behind_tensors_is_refused_where_ffcv_would_go_round_for_ever(beton, behind):
    module = FFCVLoaderData(train=beton, val=beton, pipelines={"image": [CROP, *behind, NORMALISE]}, num_workers=1)
    module.setup("fit")
    with pytest.raises(
        DataError, match="NormalizeImage is a compiled operation behind ToTensor, which is not: put it bef"
    ):
        module.train_dataloader()


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ([CROP, "SimpleRGBImageDecoder"], "operation 2: SimpleRGBImageDecoder is a decoder, which stands first"),
        (
            ["IntDecoder", "ToTensor"],
            "operation 1: IntDecoder does not decode this field, which takes SimpleRGBImageDec",
        ),
        (["ToTensor"], "TypeError: SimpleRGBImageDecoder only supports constant image"),
        ([CROP, torch.nn.Module()], "failed: NotImplementedError"),
        ([CROP, "ToTensor", Nothing()], "the pipeline of 'image' made NoneType: its last operation returns no tensor"),
    ],
)
def test_a_pipeline_that_makes_no_images_is_a_line(beton, pipeline, message):
    module = FFCVLoaderData(val=beton, val_pipelines={"image": pipeline}, num_workers=1)
    module.setup("validate")
    with pytest.raises(DataError, match=message) as caught:
        next(iter(module.val_dataloader()))
    assert "\n" not in str(caught.value)


def test_a_file_at_a_url_is_fetched(beton, tmp_path, monkeypatch):
    monkeypatch.setenv("POOLFORMER_DATA_CACHE", str(tmp_path / "cache"))
    with fsspec.open("memory://x.beton", "wb") as file:
        file.write(Path(beton).read_bytes())
    module = FFCVLoaderData(val="memory://x.beton", image_size=16, num_workers=1)
    module.prepare_data()
    module.setup("validate")
    assert len(next(iter(module.val_dataloader()))[1]) == 11


def test_normalised_images_are_declared_to_be(beton):
    pipeline = [CROP, NORMALISE, "ToTensor", "ToTorchImage"]
    module = FFCVLoaderData(train=beton, val=beton, pipelines={"image": pipeline}, num_workers=1, batch_size=4)
    module.setup("fit")
    images, _ = next(iter(module.train_dataloader()))
    assert images.dtype == torch.float32
    assert module.images_are_normalised


def test_stock_pipelines_are_those_of_ffcv_imagenet(beton):
    module = FFCVLoaderData(train=beton, val=beton, image_size=16, num_workers=1)
    module.setup("fit")
    operations = {training: module._operations(module._files["val"], training=training) for training in (True, False)}
    named = {key: [type(each).__name__ for each in made["image"]] for key, made in operations.items()}
    start = ["RandomResizedCropRGBImageDecoder", "RandomHorizontalFlip"]
    assert named == {
        True: [*start, "ToTensor", "ToTorchImage"],
        False: ["CenterCropRGBImageDecoder", "ToTensor", "ToTorchImage"],
    }
    assert operations[False]["image"][0].ratio == 224 / 256
    labels = [type(each) for each in operations[True]["label"]]
    assert labels == [decoders.IntDecoder, transforms.ToTensor, transforms.Squeeze]
    assert all(isinstance(each, Operation) for each in operations[True]["label"])
