"""What the machine is to do with a backbone: fuse, recompute, compile, capture; found out before training starts."""

from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import nn

from ..errors import ConfigError, describe
from ..network.fused import fuse, fusing_pays
from ..network.recomputing import recompute
from .distributed import suit_processes
from .lightning_internals import leave_buffers_alone


def compute_as_asked(backbone: nn.Module, options: Any, trainer: pl.Trainer) -> None:
    """Have a backbone computed as the options ``fused``, ``recompute``, ``compile`` and ``cuda_graphs`` ask for.

    Args:
        backbone: Changed in place.
        options: Of `ImageClassifier`.
        trainer: That runs it.

    Raises:
        ConfigError: Nothing can be compiled here, no CUDA graphs captured, or no batch norms synchronised.
        OptionsError: The backbone cannot be recomputed.
    """
    device = trainer.strategy.root_device
    if trainer.state.fn == "fit":
        suit_processes(trainer.strategy, backbone, image_size=options.image_size)
    if options.cuda_graphs:
        check_graphs(trainer)
    if options.fused:
        fuse_blocks(backbone, device=device, precision=trainer.precision)
    if options.recompute and trainer.state.fn == "fit":
        recompute(backbone)
    if options.compile or options.cuda_graphs:
        compile_in_place(backbone, device=device, mode="reduce-overhead" if options.cuda_graphs else None)
    if trainer.state.fn == "fit":
        keep_buffers_apart(trainer.strategy, backbone)


def fuse_blocks(backbone: nn.Module, *, device: torch.device, precision: str) -> None:
    """Have the blocks of a backbone run in fused operators where that pays; say how many do.

    Args:
        backbone: Changed in place.
        device: That it is to run on.
        precision: Of Lightning's trainer, such as ``bf16-mixed``.
    """
    if not fusing_pays(device.type, torch.bfloat16 if precision.startswith("bf16") else torch.float32):
        rank_zero_warn(
            "--model.fused needs Triton on a GPU, and on a CPU C++ that can be compiled and has products in the "
            f"precision: on this {device.type}, in {precision}, the blocks stay as they are"
        )
        return
    tokens, channels = fuse(backbone, device.type)
    if tokens or channels:
        rank_zero_info(f"fused operators mix the tokens of {tokens} blocks and the channels of {channels}")
    else:
        rank_zero_warn("--model.fused changes nothing: there is no fused operator for the blocks of this backbone")


def keep_buffers_apart(strategy: Strategy, backbone: nn.Module) -> None:
    """Have DDP not send buffers from process to process before each step where the backbone has none that may change.

    The classifier's own are constants. A backbone's may be running statistics, such as those of a BatchNorm: with DDP's
    default all processes have those of the first one, which are the ones that are saved, and so evaluate one network.
    """
    if isinstance(strategy, DDPStrategy) and next(backbone.buffers(), None) is None:
        leave_buffers_alone(strategy)


def fuses_adamw(trainer: pl.Trainer) -> bool | None:
    """Return whether AdamW is to run in one fused kernel, which asks nothing of the host for each parameter.

    On GPUs. On a CPU it would change the digits of a run for no wait less; None is PyTorch's default. Nor in mixed
    precision with clipping, which Lightning refuses for an optimiser that takes a loss scale off by itself, also where
    there is none.
    """
    refuses = trainer.precision == "16-mixed" or (trainer.precision.endswith("-mixed") and trainer.gradient_clip_val)
    return True if trainer.strategy.root_device.type == "cuda" and not refuses else None


def check_graphs(trainer: pl.Trainer) -> None:
    """Refuse CUDA graphs where they cannot be captured.

    Raises:
        ConfigError: It is not one GPU, or gradients would outlive the graph that made them.
    """
    device, off = trainer.strategy.root_device.type, "--model.cuda_graphs false"
    if device != "cuda":
        raise ConfigError(f"--model.cuda_graphs needs an NVIDIA GPU, and this run is on {device}: {off}")
    if not isinstance(trainer.strategy, SingleDeviceStrategy):
        raise ConfigError(f"--model.cuda_graphs is for one GPU: --trainer.devices 1, or {off}")
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    accumulates = trainer.accumulate_grad_batches > 1 or any(
        isinstance(each, GradientAccumulationScheduler) and each.going_to_accumulate_grad_batches()
        for each in callbacks
    )
    if trainer.state.fn == "fit" and accumulates:
        raise ConfigError(
            "--model.cuda_graphs cannot accumulate gradients, which a graph overwrites: "
            f"--trainer.accumulate_grad_batches 1, or {off}"
        )


def compile_in_place(backbone: nn.Module, *, device: torch.device, mode: str | None = None) -> None:
    """Have a backbone run through torch.compile; its state dict keeps its names.

    Args:
        backbone: Changed in place.
        device: That it is to run on.
        mode: Of torch.compile; ``reduce-overhead`` captures CUDA graphs.

    Raises:
        ConfigError: Nothing can be compiled here.
    """
    try:  # on two numbers: without a compiler the first step would fail with a page of traceback
        torch.compile(torch.sin)(torch.zeros(2, device=device))
    except Exception as error:
        option = "cuda_graphs" if mode else "compile"
        raise ConfigError(f"--model.{option}: PyTorch cannot compile here: {describe(error)[:300]}") from error
    backbone.compile(mode=mode)
