"""`poolformer export`."""

import argparse
import contextlib
import inspect
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import first_word
from ..checkpoint.published import without_ending
from ..data.target import sidecar
from ..errors import ConfigError, PoolformerError, describe
from ..files.atomic_write import beginning, publish
from ..registry import install
from .arguments import CommandParser, above_0, add_checkpoint, local_path

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from ..classifier import ImageClassifier

_OPSET = 20  # the first with GELU
_IMAGES = {"image_size", "mean", "std"}


def main(argv: list[str]) -> int:
    """Write the network of a checkpoint for use without this package, and check what was written.

    FILE's ending says what it becomes:

      .onnx         for ONNX Runtime and others; needs pip install 'poolformer-lightning[export]'
      .pt2          for torch.export.load; with --compile a library for CPUs of this kind, for
                    torch._inductor.aoti_load_package
      .safetensors  the weights alone, named as in timm, as they were trained; for --model.pretrained

    .onnx and .pt2 hold the network in its inference form: norms' weights and layer scales are part of the layers
    beside them. They take images as the network does, float32 (B, 3, H, W) with the mean taken off and divided by the
    standard deviation, and give logits (B, K). B is free, and so are H and W where the network allows it, above the
    size that leaves one token. Images of another type or size are refused; how they lie in memory does not matter (a
    compiled file has PyTorch's index_reduce see to that, whose first call says that it is in beta).

    How to feed them stands in the file ('poolformer' in the metadata, as JSON) and in FILE.json beside it: how images
    are resized, cropped and normalised, and the classes' names. docs/deploying.md has the lines that run a file with
    ONNX Runtime and Pillow alone.

    A written network is loaded again and run beside the original on random images; the largest difference, as a share
    of the largest logit, is printed. The file appears only if that is at most --tolerance.

      poolformer export runs/s12/checkpoints/best.ckpt
      poolformer export runs/s12/checkpoints/best.ckpt s12.pt2 --compile
      poolformer export runs/s12/checkpoints/best.ckpt s12.safetensors
      poolformer export poolformer_s12.pth.tar s12.onnx
    """
    options = _parser().parse_intermixed_args(argv)  # FILE may stand behind an option
    target = Path(options.file or f"{without_ending(options.checkpoint)}.onnx")
    if target.suffix not in _FORMATS:
        raise ConfigError(f"'{target}': the name ends in one of {', '.join(_FORMATS)}")
    if target.suffix == ".safetensors" and (options.batch_size or options.fixed_size):
        raise ConfigError("weights alone fit any batch: --batch_size and --fixed_size are for .onnx and .pt2")
    if options.compile and target.suffix != ".pt2":
        raise ConfigError("--compile makes a .pt2 file")
    if options.batch_size is not None and options.batch_size < 1:
        raise ConfigError(f"--batch_size {options.batch_size}: at least 1")
    place = Path(os.path.realpath(target))  # a link stays one
    if not os.access(place.parent, os.W_OK) or (place.exists() and not place.is_file()):
        raise ConfigError(
            f"'{target}' cannot be written: there is no such folder, or it is not yours, or this is no regular file"
        )
    _check_description(sidecar(place))
    first_word.say(f"export {options.checkpoint}", "PyTorch and Lightning", "lightning")
    import torch

    from ..run.places import Places
    from ..trained import load_classifier

    with Places() as places:
        classifier = load_classifier(places.file(options.checkpoint), trusted=options.trust, backbone=options.backbone)
    with torch.no_grad(), _folder_beside(place) as folder:
        unfinished = folder / f"network{target.suffix}"
        for line in _FORMATS[target.suffix](classifier, unfinished, options):
            print(line, flush=True)
        if list(folder.iterdir()) != [unfinished]:
            raise PoolformerError("ONNX cannot hold so many weights in one file: write a .pt2 file")
        description = sidecar(unfinished)
        description.write_text(_facts(classifier, indent=2) + "\n", encoding="utf-8")
        publish(unfinished, place)
        publish(description, sidecar(place))
    print(target)
    return 0


def _check_description(path: Path) -> None:
    """Refuse to replace what stands in the place of the description and is none."""
    try:
        if not path.exists() or json.loads(path.read_bytes()).keys() >= _IMAGES:
            return
    except (OSError, ValueError, AttributeError, RecursionError):
        pass
    raise ConfigError(f"'{path}' is already there and describes no exported network: move it, or choose another FILE")


@contextlib.contextmanager
def _folder_beside(target: Path) -> Iterator[Path]:
    """Yield a folder for unfinished files; what the disk refuses is said in a line."""
    try:
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{beginning(target.name)}.") as folder:
            yield Path(folder)
    except BrokenPipeError:  # whoever reads what is printed has seen enough
        raise
    except OSError as error:
        raise ConfigError(f"'{target}' cannot be written: {error.strerror or error}") from error


def _parser() -> argparse.ArgumentParser:
    parser = CommandParser(
        "poolformer export", description=inspect.getdoc(main), formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_checkpoint(parser)
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        type=local_path,
        help="what to write: .onnx, .pt2 or .safetensors (CKPT's name with .onnx; of a URL, in this directory)",
    )
    parser.add_argument("--batch_size", type=int, help="images of every batch; any number if not given")
    parser.add_argument("--fixed_size", action="store_true", help="fix H and W to the size that the run evaluated at")
    parser.add_argument("--compile", action="store_true", help="compile a .pt2 file with AOTInductor")
    parser.add_argument("--tolerance", type=above_0, default=1e-4, help="largest difference allowed (1e-4)")
    return parser


class _Exported(NamedTuple):
    """The inference form of a network, as a program.

    Attributes:
        program: From images to logits.
        images: Images that it takes: one batch, and one of every size that is free.
        logits: What the original network makes of them.
        said: What it takes, and how far the inference form is from the original.
    """

    program: "torch.export.ExportedProgram"
    images: "list[Tensor]"
    logits: "list[Tensor]"
    said: list[str]


def _export(classifier: "ImageClassifier", options: argparse.Namespace) -> _Exported:
    import torch

    from ..network.compiled import AnyLayout
    from ..network.example import own_example, rolled
    from ..network.folding import fold

    network, side, batch = classifier.backbone, classifier.hparams.image_size, options.batch_size or 2
    if (example := own_example(network)) is None:
        shape = _channels(network, len(classifier.hparams.mean), side), side, side
        images = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0))
    elif options.compile:
        raise ConfigError(f"--compile: {classifier.hparams.backbone} takes something else than images")
    else:
        images = rolled(example, batch)
    free = [0] if options.batch_size is None else []
    folded = fold(network).to(memory_format=torch.contiguous_format)
    if options.compile:
        folded = AnyLayout(folded, images.shape[1])
    larger = (0, 64, 0, 32)  # pixels more at each edge
    if not options.fixed_size and example is None and _takes(network, torch.nn.functional.pad(images[:1], larger)):
        try:
            return _trace(network, folded, images, [*free, 2, 3])
        except Exception:  # such as a last map of one token, traced as one that never has more
            print(
                f"images of {side} x {side} only: torch.export cannot trace it for others, such as a last map of 1 x 1"
            )
    with in_a_line("torch.export cannot trace this network"):
        return _trace(network, folded, images, free)


@contextlib.contextmanager
def in_a_line(what: str) -> Iterator[None]:
    """Say in one line what a mixer's operations, or this machine, cannot do."""
    try:
        yield
    except Exception as error:
        raise PoolformerError(f"{what}: {describe(error)[:300]}") from error


def _trace(network: "nn.Module", folded: "nn.Module", images: "Tensor", free: list[int]) -> _Exported:
    """Trace the inference form with some dimensions of the images free."""
    import torch

    program = torch.export.export(folded, (images,), dynamic_shapes=(dict.fromkeys(free, torch.export.Dim.DYNAMIC),))
    batches, more = [images], {0: 1, 2: 32, 3: 64}
    if free:  # a sample more than is traced, and of integers the example's rolled on: no others are known
        shape = [number + more[index] if index in free else number for index, number in enumerate(images.shape)]
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        batches.append(noise if images.is_floating_point() else torch.cat([images, images[-1:].roll(1, -1)]))
    logits = [network(batch) for batch in batches]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "index_reduce")  # which it calls in beta, since 2021
        error = _difference([program.module()(batch) for batch in batches], logits)
    kind = str(images.dtype).removeprefix("torch.")
    takes = ", ".join("any" if index in free else str(number) for index, number in enumerate(images.shape))
    return _Exported(program, batches, logits, [f"takes {kind} ({takes})", f"inference form: {_largest(error)}"])


def _channels(network: "nn.Module", expected: int, side: int) -> int:
    """Return how many channels the images of a network have: as ``expected``, or what its first convolution takes."""
    import torch

    tried = [expected, *(module.in_channels for module in network.modules() if isinstance(module, torch.nn.Conv2d))][:2]
    return next((channels for channels in tried if _takes(network, torch.zeros(1, channels, side, side))), expected)


def _takes(network: "nn.Module", images: "Tensor") -> bool:
    with contextlib.suppress(PoolformerError, RuntimeError, AssertionError, ValueError):  # timm's networks assert
        network(images)
        return True
    return False


def _difference(found: "Sequence[Tensor]", expected: "Sequence[Tensor]") -> float:
    import torch

    shares = [(ours - theirs).abs().max() / theirs.abs().max() for ours, theirs in zip(found, expected, strict=True)]
    return torch.stack(shares).max().item()  # not a number where one of them is not


def _check(run: "Callable[[Tensor], Tensor]", exported: _Exported, name: str, tolerance: float) -> str:
    error = _difference([run(images) for images in exported.images], exported.logits)
    if not error <= tolerance:  # also where it is not a number
        raise PoolformerError(
            f"the {name} differs from the network by {error:.1e} of the largest logit, and --tolerance is {tolerance:g}"
        )
    return f"{name}: {_largest(error)}"


def _largest(error: float) -> str:
    return f"largest difference {error:.1e}"


def _metadata(classifier: "ImageClassifier") -> dict[str, str]:
    from ..checkpoint.record import RECORD

    return {RECORD: _facts(classifier)}


def _facts(classifier: "ImageClassifier", *, indent: int | None = None) -> str:
    """What one has to know of the weights, as in a checkpoint's record, and of the images: JSON."""
    from ..checkpoint.record import record
    from ..trained import feeding

    options = classifier.hparams
    facts = classifier.loaded.record or record(
        backbone=options.backbone, mixer=options.mixer, class_names=classifier.class_names
    )
    return json.dumps({**facts, **feeding(classifier)}, indent=indent)


# ---- formats: each writes a file, and yields what is to be said of it


def _pt2(classifier: "ImageClassifier", path: Path, options: argparse.Namespace) -> Iterator[str]:
    import torch

    from ..network.compiled import layouts

    exported = _export(classifier, options)
    yield from exported.said
    if options.compile:
        with in_a_line("PyTorch cannot compile here"):
            compiled = torch._inductor.aoti_compile_and_package(
                exported.program,
                package_path=str(path),
                inductor_configs={"aot_inductor.metadata": _metadata(classifier)},
            )
        run = torch._inductor.aoti_load_package(compiled)
        yield _check(run, exported, "compiled file", options.tolerance)
        for images, logits in zip(exported.images, exported.logits, strict=True):
            turned = exported._replace(images=layouts(images), logits=[logits] * len(layouts(images)))
            _check(run, turned, "compiled file, of images that lie in memory otherwise,", options.tolerance)
    else:
        program = io.BytesIO()
        torch.export.save(exported.program, program, extra_files=_metadata(classifier))
        path.write_bytes(program.getbuffer())
        yield _check(torch.export.load(path).module(), exported, "file", options.tolerance)


def _onnx(classifier: "ImageClassifier", path: Path, options: argparse.Namespace) -> Iterator[str]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"ONNX needs the extra export: {install('export')} ({error})") from error
    import torch

    exported = _export(classifier, options)
    yield from exported.said
    with in_a_line("ONNX cannot express this network"):
        model = to_onnx(exported.program, exported.images[0])
    model.model.metadata_props.update(_metadata(classifier))
    model.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(images: "Tensor") -> "Tensor":
        return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])

    yield _check(run, exported, "ONNX Runtime", options.tolerance)


def to_onnx(program: "torch.export.ExportedProgram", images: "Tensor") -> "torch.onnx.ONNXProgram":
    """Translate a program from images, of which these are some, to logits."""
    import torch

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch\.onnx|onnxscript|copyreg")  # about themselves
        translated = torch.onnx.export(
            program,
            (images,),
            dynamo=True,
            opset_version=_OPSET,
            input_names=["images"],
            output_names=["logits"],
            verbose=False,
        )
    assert translated is not None  # as it would be of a program without dynamo
    return translated


def _safetensors(classifier: "ImageClassifier", path: Path, options: argparse.Namespace) -> Iterator[str]:
    import safetensors.torch
    import torch

    weights = {  # as copies: tied weights share their memory
        name: tensor.clone(memory_format=torch.contiguous_format)
        for name, tensor in classifier.backbone.state_dict().items()
    }
    path.write_bytes(safetensors.torch.save(weights, {**_metadata(classifier), "format": "pt"}))
    yield f"{len(weights)} tensors, {sum(map(torch.numel, weights.values())):,} numbers"


_FORMATS = {".onnx": _onnx, ".pt2": _pt2, ".safetensors": _safetensors}
