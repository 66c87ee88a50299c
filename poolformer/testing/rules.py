"""The rules that a token mixer keeps, one function each; `poolformer.testing` has the table of them.

A function's docstring is its sentence in the contract. It returns what it found where a mixer breaks
the rule; whatever the mixer raises is a finding too. Shapes: B batch, C channels, H and W tokens.
"""

import copy
import inspect
import io
import pickle
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from ..network.mixer_spec import Mixer

# The maps of the last two stages at 224 pixels, one that is not square, and one token alone. Most
# rules are tried on the first.
RESOLUTIONS = ((7, 7), (14, 14), (7, 5), (1, 1))
# Largest difference between two ways to the same output, as a fraction of its largest value.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Case:
    """One mixer at one width, as a rule sees it."""

    mixer: Mixer
    dim: int

    def make(self, resolution: tuple[int, int] = RESOLUTIONS[0], *, seed: int = 0) -> nn.Module:
        """Call the factory as a stage of the frame does."""
        torch.manual_seed(seed)
        extra = {"resolution": resolution} if self.mixer.takes_resolution else {}
        return self.mixer.factory(self.dim, **self.mixer.options, **extra)

    def build(self, resolution: tuple[int, int] = RESOLUTIONS[0], *, seed: int = 0) -> nn.Module:
        """Make the module in evaluation mode, with trained-looking weights."""
        module = self.make(resolution, seed=seed).eval()
        with torch.no_grad():  # a weight that starts at zero would hide what it multiplies
            for parameter in module.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.02 * torch.randn_like(parameter))
        return module

    def tokens(self, resolution: tuple[int, int] = RESOLUTIONS[0], *, batch: int = 2) -> Tensor:
        """Random tokens (B, C, H, W), the same at each call."""
        torch.manual_seed(0)
        return torch.randn(batch, self.dim, *resolution)


def takes_dim_first(case: Case) -> str | None:
    """The factory's first parameter is ``dim``; each option has a default and is not called ``name``."""
    parameters = list(inspect.signature(case.mixer.factory).parameters.values())
    if not parameters or parameters[0].name != "dim":
        return f"the first parameter is {parameters[0].name!r}" if parameters else "there is no parameter"
    options = [p for p in parameters[1:] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and p.name != "resolution"]
    required = [p.name for p in options if p.default is p.empty]
    if required:
        return f"without a default: {', '.join(required)}"
    return "an option is called 'name'" if any(p.name == "name" for p in options) else None


def makes_module(case: Case) -> str | None:
    """The factory returns an ``nn.Module`` for any width."""
    module = case.make()
    return None if isinstance(module, nn.Module) else f"the factory returned {type(module).__name__}"


def keeps_shape(case: Case) -> str | None:
    """The module maps tokens (B, C, H, W) to mixed tokens of the same shape and type."""
    return _shape_and_type(case.build(), case.tokens())


def keeps_any_size(case: Case) -> str | None:
    """Any batch size and any map keep their shape; with ``resolution``, the map it was built for."""
    for resolution in RESOLUTIONS:
        module = case.build(resolution)
        for batch in (1, 3):
            found = _shape_and_type(module, case.tokens(resolution, batch=batch))
            if found:
                return found
    return None


def leaves_input(case: Case) -> str | None:
    """The input is left as it was, in training and in evaluation."""
    for training in (True, False):
        given = case.tokens()
        case.build().train(training)(given)
        if not torch.equal(given, case.tokens()):
            return "forward changed its input in place"
    return None


def separates_samples(case: Case) -> str | None:
    """In evaluation the samples of a batch do not leak into each other."""
    module, tokens = case.build(), case.tokens()
    others_changed = tokens.clone()
    others_changed[1:] += 1
    return _difference(
        "the first sample, beside another one,", _mix(module, tokens)[0], _mix(module, others_changed)[0]
    )


def repeats(case: Case) -> str | None:
    """In evaluation the same input gives the same output."""
    module, tokens = case.build(), case.tokens()
    return _difference("the second output", module(tokens.clone()), module(tokens.clone()))


def passes_gradient(case: Case) -> str | None:
    """Gradients reach the input and each trainable parameter, and are finite."""
    module, tokens = case.build().train(), case.tokens().requires_grad_()
    mixed = _mix(module, tokens)
    (mixed * torch.randn_like(mixed)).sum().backward()
    trainable = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    for name, tensor in {"the input": tokens, **trainable}.items():
        if tensor.grad is None:
            return f"no gradient reaches {name}"
        if not tensor.grad.isfinite().all():
            return f"the gradient of {name} is not finite"
    return None


def saves_state(case: Case) -> str | None:
    """The state dict holds everything that was drawn or learned, and loads with ``weights_only``."""
    saved, fresh = case.build(seed=0), case.build(seed=1)
    file = io.BytesIO()
    torch.save(saved.state_dict(), file)
    file.seek(0)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    return _difference("the output after loading", _mix(saved, case.tokens()), _mix(fresh, case.tokens()))


def copies(case: Case) -> str | None:
    """``copy.deepcopy`` gives a module with the same output."""
    module = case.build()
    return _difference("the copy's output", _mix(module, case.tokens()), _mix(copy.deepcopy(module), case.tokens()))


def pickles(case: Case) -> str | None:
    """``pickle`` gives a module with the same output."""
    module = case.build()
    unpickled = pickle.loads(pickle.dumps(module))
    return _difference("the unpickled output", _mix(module, case.tokens()), _mix(unpickled, case.tokens()))


def runs_in_bfloat16(case: Case) -> str | None:
    """Training runs under bfloat16 autocast, with a finite output and gradient."""
    module, tokens = case.build().train(), case.tokens().requires_grad_()
    with torch.autocast(tokens.device.type, torch.bfloat16):
        mixed = _mix(module, tokens)
    mixed.float().sum().backward()
    gradient = tokens.grad
    finite = gradient is not None and mixed.isfinite().all() and gradient.isfinite().all()
    return None if finite else "the output or gradient is not finite"


def runs_in_float64(case: Case) -> str | None:
    """After ``.double()`` the module maps float64 to float64."""
    return _shape_and_type(case.build().double(), case.tokens().double())


def takes_channels_last(case: Case) -> str | None:
    """Tokens laid out as ``channels_last`` give the same output."""
    module, tokens = case.build(), case.tokens()
    laid_out = tokens.contiguous(memory_format=torch.channels_last)
    return _difference("the channels_last output", _mix(module, tokens), _mix(module, laid_out))


def moves_to_device(case: Case) -> str | None:
    """After ``.to(device)`` all its tensors are there, and forward looks at no values (tried on ``meta``)."""
    return _shape_and_type(case.build().to("meta"), case.tokens().to("meta"))


def exports(case: Case) -> str | None:
    """``torch.export`` takes it with a batch of any size, and gives the same output."""
    module, tokens = case.build(), case.tokens(batch=3)
    exported = torch.export.export(module, (case.tokens(),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    return _difference("the exported output", _mix(module, tokens), _mix(exported.module(), tokens))


def is_countable(case: Case) -> str | None:
    """``torch.utils.flop_counter`` can count it: each operator that is not PyTorch's has a formula."""
    with FlopCounterMode(display=False), _ForeignOperators() as foreign:
        _mix(case.build(), case.tokens())
    unknown = [str(operator) for operator in foreign.seen if operator not in flop_registry]
    return f"no FLOP formula for {', '.join(unknown)}" if unknown else None


def _mix(module: nn.Module, tokens: Tensor) -> Tensor:
    # On a copy and from one seed, so that a mixer which changes its input, or draws random numbers
    # in evaluation, breaks the rule for that and not all the others.
    copied = tokens.clone()
    torch.manual_seed(0)
    return module(copied)


def _shape_and_type(module: nn.Module, tokens: Tensor) -> str | None:
    mixed = _mix(module, tokens)
    if not isinstance(mixed, Tensor):
        return f"forward returned {type(mixed).__name__}"
    if mixed.shape != tokens.shape:
        return f"{tuple(tokens.shape)} became {tuple(mixed.shape)}"
    if mixed.dtype != tokens.dtype:
        return f"{tokens.dtype} became {mixed.dtype}"
    return None if mixed.device == tokens.device else f"tokens on {tokens.device} became tokens on {mixed.device}"


def _difference(what: str, expected: Tensor, actual: Tensor) -> str | None:
    largest = (expected - actual).abs().max().item()
    if largest <= TOLERANCE * expected.abs().max().item():
        return None
    return f"{what} differs by up to {largest:.2g}"


class _ForeignOperators(TorchDispatchMode):
    """Notes the operators that come from other libraries than PyTorch."""

    supports_higher_order_operators = True

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace not in ("aten", "prims", "profiler", "higher_order"):
            self.seen.add(func.overloadpacket)
        return func(*args, **(kwargs or {}))
