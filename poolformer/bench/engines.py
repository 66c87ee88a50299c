"""Engines other than PyTorch that `poolformer bench model` can run a network in, from its exported inference form."""

import importlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..commands.export import in_a_line, to_onnx
from ..errors import ConfigError
from ..network.folding import fold
from ..registry import install


def check(engine: str, device: torch.device, dtype: torch.dtype) -> None:
    """Ask for an engine before anything is built.

    Raises:
        ConfigError: It is not installed, or is not for this device or type.
    """
    for package in ("onnx", "onnxscript", engine):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ConfigError(f"{engine} needs the extra bench: {install('bench')} ({error})") from error
    if device.type != "cpu":
        raise ConfigError(f"{engine} is measured on the CPU: --device cpu")
    if engine == "onnxruntime" and dtype != torch.float32:
        raise ConfigError("onnxruntime computes these networks in fp32 alone: leave it out with --precision bf16")
    if engine == "openvino" and dtype == torch.bfloat16 and not _openvino_has_bf16():
        raise ConfigError(
            "openvino computes in fp32 on this CPU, which has no bf16: leave it out with --precision bf16"
        )


def _openvino_has_bf16() -> bool:
    # Asked for bf16 where there is none, it computes in fp32 and says nothing.
    import openvino as ov

    return "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def onnxruntime(network: nn.Module, images: Tensor, dtype: torch.dtype) -> Callable[[], Tensor]:
    """Return one run of ONNX Runtime on a batch of images (B, 3, H, W), in float32."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = ort.InferenceSession(_onnx(network, images), settings, providers=["CPUExecutionProvider"])
    array = images.numpy()
    return lambda: torch.from_numpy(session.run(None, {"images": array})[0])


def openvino(network: nn.Module, images: Tensor, dtype: torch.dtype) -> Callable[[], Tensor]:
    """Return one run of OpenVINO on a batch of images (B, 3, H, W), in float32 or bf16; its logits are float32."""
    import openvino as ov

    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "bf16" if dtype == torch.bfloat16 else "f32",
    }
    core = ov.Core()
    compiled = core.compile_model(core.read_model(_onnx(network, images)), "CPU", settings)
    array = images.numpy()
    return lambda: torch.from_numpy(compiled(array)[0])


def _onnx(network: nn.Module, images: Tensor) -> bytes:
    with in_a_line("this network cannot be exported for other engines"):
        program = torch.export.export(fold(network.to(memory_format=torch.contiguous_format)), (images,))
        return to_onnx(program, images).model_proto.SerializeToString()
