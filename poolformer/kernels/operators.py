"""Registering fused operators with PyTorch: ``poolformer::`` written in Python, ``poolformer_cpu::`` in C++.

Both have shapes for compilers and ``torch.export``, gradients, and counts of its operations. Nothing looks into those
in C++. Of those in Python, torch.compile compiles what they launch, where Triton compiles its kernels.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NamedTuple, NoReturn, overload

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from .availability import is_transformed, runs_traceable_kernels


class Pass(NamedTuple):
    """The forward or the backward pass of an operator.

    Attributes:
        name: Of the operator.
        run: Computes it in Python; its annotations are the operator's schema.
        shapes: Returns empty tensors like those that ``run`` returns.
        flops: Counts the operations of its products from the shapes of what it takes; None for none.
    """

    name: str
    run: Callable
    shapes: Callable
    flops: Callable[..., int] | None = None


def register(forward: Pass, backward_pass: Pass, *, keep: Callable, backward: Callable) -> None:
    """Register an operator in both namespaces; in C++ it is computed where `poolformer.kernels.cpu` has loaded it.

    It can be differentiated once: a second time raises RuntimeError.

    Args:
        forward: Its first output is differentiated.
        backward_pass: Takes the gradient and what ``keep`` has kept.
        keep: ``setup_context`` of the gradient.
        backward: Computes the gradient, given the operator of the backward pass, the context, and gradients of outputs.
    """
    define = torch.library.triton_op if runs_traceable_kernels() else torch.library.custom_op
    for each in (forward, backward_pass):
        define(f"poolformer::{each.name}", each.run, mutates_args=())
        in_cpp = f"poolformer_cpu::{each.name}"
        torch.library.define(in_cpp, torch.library.infer_schema(each.run, mutates_args=()))
        # Where the C++ is not, as where an exported program was sent to.
        torch.library.impl(in_cpp, "CompositeExplicitAutograd", each.run)
    for namespace in ("poolformer", "poolformer_cpu"):
        operators = getattr(torch.ops, namespace)
        for each in (forward, backward_pass):
            torch.library.register_fake(f"{namespace}::{each.name}", each.shapes)
            if each.flops:
                register_flop_formula(getattr(operators, each.name))(each.flops)
        compute = getattr(operators, backward_pass.name)
        torch.library.register_autograd(f"{namespace}::{forward.name}", partial(backward, compute), setup_context=keep)
        torch.library.register_autograd(f"{namespace}::{backward_pass.name}", _refuse)


@overload
def dense(tensor: Tensor, numbers: int, name: str) -> Tensor: ...
@overload
def dense(tensor: None, numbers: int, name: str) -> None: ...
@overload
def dense(tensor: Tensor | None, numbers: int, name: str) -> Tensor | None: ...
def dense(tensor: Tensor | None, numbers: int, name: str) -> Tensor | None:
    """Return a parameter as kernels read it, which know neither its strides nor its size.

    Raises:
        RuntimeError: It has another number of numbers.
    """
    if tensor is None:
        return None
    check_size(tensor, numbers, name)
    return tensor.contiguous()


def check_size(tensor: Tensor, numbers: int, name: str) -> None:
    """Raise RuntimeError where a parameter has another number of numbers than kernels read."""
    if tensor.numel() != numbers:
        raise RuntimeError(f"{name} has {tensor.numel()} numbers, not {numbers}")


def differentiated_once(backward: Callable[..., tuple[Tensor | None, ...]]) -> Callable:
    """Have the backward pass of an ``autograd.Function`` give gradients that cannot be differentiated."""

    @wraps(backward)
    def once(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if is_transformed():
            raise RuntimeError("fused operators have one gradient at a time: leave out --model.fused, or fuse()")
        if not torch.is_grad_enabled():
            return backward(ctx, gradient)
        with torch.no_grad():
            found = backward(ctx, gradient)
        return tuple(None if each is None else _NotAgain.apply(each.requires_grad_()) for each in found)

    return once


class _NotAgain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> NoReturn:
        _refuse(ctx)


def _refuse(ctx, *_: object) -> NoReturn:
    raise RuntimeError("fused operators can be differentiated once: leave out --model.fused, or fuse()")
