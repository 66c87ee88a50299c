"""Compilers see the kernels that an operator launches, and each can be compiled for a GPU, also where there is none."""

import json
import os
import subprocess
import sys

import pytest

TRACED = """
import json

import torch
import triton
from torch._dynamo.backends.common import aot_autograd
from torch._higher_order_ops.triton_kernel_wrap import kernel_side_table
from torch._library.triton import get_triton_kernels_for_op
from torch._subclasses import FakeTensorMode
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from poolformer.kernels import channel_mix, pool_mix

TYPES = {torch.float32: "*fp32", torch.bfloat16: "*bf16"}
poolformer, launched, opaque = torch.ops.poolformer, [], []


def block(x, weight, w1, b1, w2, keep):
    y, mean, rstd = poolformer.pool_mix(x, weight, keep, 1e-5, 3)
    gradients = poolformer.pool_mix_backward(y, x, weight, keep, mean, rstd, 3)
    parameters = (weight, weight, w1, b1, w2, weight, weight)
    z, *kept = poolformer.channel_mix(y, *parameters, keep, 1e-5, torch.bfloat16, 2)
    return z, *gradients, *poolformer.channel_mix_backward(z, *kept, *parameters, keep)


def compiled(kernel, values):
    # As it is launched: Triton makes another kernel of numbers that 16 divides, as of most networks.
    signature, constants, attributes = {}, {}, {}
    for place, parameter in enumerate(kernel.params):
        value = values.get(parameter.name)
        if parameter.is_constexpr or value is None or value == 1:
            constants[parameter.name], signature[parameter.name] = value, "constexpr"
        elif isinstance(value, float):
            signature[parameter.name] = "fp32"
        else:
            is_map = isinstance(value, torch.fx.Node)
            signature[parameter.name] = TYPES[value.meta["val"].dtype] if is_map else "i32"
            if is_map or value % 16 == 0:
                attributes[(place,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"enable_fp_fusion": True})
    return kernel.fn.__name__


def look(graph, inputs):
    for node in graph.graph.nodes:
        if "triton_kernel" in str(node.target):
            constants = kernel_side_table.get_constant_args(node.kwargs["constant_args_idx"])
            kernel = kernel_side_table.get_kernel(node.kwargs["kernel_idx"])
            launched.append(compiled(kernel, {**constants, **node.kwargs["kwargs"]}))
        elif "poolformer" in str(node.target):
            opaque.append(str(node.target))
    return graph


with FakeTensorMode(), torch.no_grad():
    x = torch.empty(2, 64, 56, 56, device="cuda").to(memory_format=torch.channels_last)
    sizes = [(64,), (256, 64, 1, 1), (256,), (64, 256, 1, 1), (2,)]
    torch.compile(block, backend=aot_autograd(fw_compiler=look), fullgraph=True)(
        x, *(torch.empty(each, device="cuda") for each in sizes)
    )
names = ("pool_mix", "pool_mix_backward", "channel_mix", "channel_mix_backward")
known = [kernel.fn.__name__ for name in names for kernel in get_triton_kernels_for_op(f"poolformer::{name}")]
print(json.dumps([launched, opaque, known]))
"""


@pytest.mark.slow
def test_compilers_see_each_kernel_of_an_operator_and_it_compiles_for_a_gpu(tmp_path):
    pytest.importorskip("triton")
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRACED], env=environment, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    launched, opaque, known = json.loads(run.stdout.splitlines()[-1])
    assert (len(launched), opaque) == (16, [])
    # By which a compiler's cache notices that a kernel has changed.
    assert set(known) == set(launched)
