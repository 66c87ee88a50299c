"""Engines other than PyTorch that `poolformer bench model` can run a network in, from its exported inference form."""

import importlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..folding import fold
from .export import to_onnx


def onnxruntime(network: nn.Module, images: Tensor, dtype: torch.dtype) -> Callable[[], Tensor]:
    """Return one run of ONNX Runtime on a batch of images (B, 3, H, W).

    Raises:
        ConfigError: It is not installed, or was asked for another type than float32 or device than the CPU.
    """
    ort = _engine("onnxruntime")
    if dtype != torch.float32:
        raise ConfigError("onnxruntime: its CPU engine computes these networks in fp32 alone")
    settings = ort.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(_onnx(network, images), settings, providers=["CPUExecutionProvider"])
    array = images.numpy()
    return lambda: torch.from_numpy(session.run(None, {"images": array})[0])


def openvino(network: nn.Module, images: Tensor, dtype: torch.dtype) -> Callable[[], Tensor]:
    """Return one run of OpenVINO on a batch of images (B, 3, H, W); its logits are float32.

    Raises:
        ConfigError: It is not installed, or was asked for another device than the CPU.
    """
    ov = _engine("openvino")
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
    }
    core = ov.Core()
    compiled = core.compile_model(core.read_model(_onnx(network, images)), "CPU", settings)
    array = images.numpy()
    return lambda: torch.from_numpy(compiled(array)[0])


def _engine(name: str):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(f"{name} needs the extra bench: pip install 'poolformer[bench]' ({error})") from error


def _onnx(network: nn.Module, images: Tensor) -> bytes:
    if images.device.type != "cpu":
        raise ConfigError("onnxruntime and openvino are measured on the CPU: --device cpu")
    for name in ("onnx", "onnxscript"):
        _engine(name)
    program = torch.export.export(fold(network.to(memory_format=torch.contiguous_format)), (images,))
    return to_onnx(program, images).model_proto.SerializeToString()
