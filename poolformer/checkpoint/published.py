"""Published weights in the place of a run's checkpoint: which network they are of, as their name or their record says.

Nothing heavy is imported with it: the command line asks before it loads PyTorch.
"""

import json
import os
import re
from typing import Any, NamedTuple

from .. import registry
from ..errors import CheckpointError
from ..files.paths import is_url
from .hub import TIMM, is_on_hub

EXPORTED = (".onnx", ".pt2")
"""Endings of exported networks, whose weights are not read back."""

RECORD_IN_FILES = "poolformer"
"""Entry of a safetensors file's metadata in which `poolformer export` says what it is of."""
_ENDINGS = (".pth.tar", ".pth", ".pt", ".bin", ".safetensors")
# The share of the image that the authors' scripts evaluate; of all that is left, timm says it.
_CROPS = (
    (r"poolformer_s\d+", 0.9),
    (r"poolformer_m\d+", 0.95),
    (r"(poolformerv2|identityformer|randformer|convformer|caformer)_\w+", 1.0),
)


class Published(NamedTuple):
    """Weights that are no run's, and what they need.

    Attributes:
        source: For ``--model.pretrained``: a file, ``timm/<model>`` or ``hf-hub:user/repo``.
        model: Options of the model by name, the backbone among them.
        image_size: Side of the images in pixels that they were evaluated at.
        crop_pct: Share of the resized image that was seen.
        orient: Whether images were turned as EXIF says.
        class_names: What the logits mean, where the file says so.
    """

    source: str
    model: dict[str, Any]
    image_size: int = 224
    crop_pct: float = 0.9
    orient: bool = False
    class_names: list[str] | None = None


def is_published(word: str) -> bool:
    """Return whether a word names weights, not the checkpoint of a run: by its ending, or as a name of theirs."""
    if word.lower().endswith(_ENDINGS) or is_on_hub(word) or word.startswith(TIMM):
        return True
    return not os.path.exists(word) and word in registry.listing(registry.BACKBONES)


def without_ending(word: str) -> str:
    """Return the path of a checkpoint without its ending; of a URL or a name of a hub, the last part of it."""
    ending = next((each for each in _ENDINGS if word.lower().endswith(each)), "")
    if ending or not is_published(word):
        return os.path.basename(word) if is_url(word) else word[: -len(ending)] if ending else os.path.splitext(word)[0]
    return re.split("[/:]", word)[-1]


def published(word: str, backbone: str | None = None, *, option: str = "--backbone") -> Published:
    """Return what weights are of.

    Args:
        word: A file, ``timm/<model>``, ``hf-hub:user/repo``, or the name of a backbone, whose weights timm downloads.
        backbone: Its name where neither the file nor its name says it; what is given counts.
        option: How the user says the backbone, for the message.

    Raises:
        CheckpointError: Nothing says which backbone they are of, or there is no such file.
    """
    path = os.path.expanduser(word)
    if word.lower().endswith(".safetensors") and os.path.isfile(path) and (record := _record(path)) is not None:
        return _of_record(path, record)
    by_name = _named_in(os.path.basename(word))
    model = backbone or by_name or (word if word.startswith(TIMM) else None)
    if model is None:
        check_file(word)
        raise CheckpointError(f"'{word}' does not say which backbone its weights are of: pass {option} NAME")
    source = f"{TIMM}{word}" if word == by_name and not os.path.exists(word) else path
    size = 384 if re.search(r"[_.]384(?![0-9a-z])", word) else 224
    if model.startswith(TIMM):
        return _of_timm(source, model)
    crop = next((share for names, share in _CROPS if re.fullmatch(names, model)), 0.9)
    return Published(source, {"backbone": model}, size, crop)


def check_file(source: str) -> None:
    """Check that there is a file of weights.

    Raises:
        CheckpointError: There is none, or it is asked for at a URL; what is on a hub is no file.
    """
    if re.match(r"\w+://", source):
        raise CheckpointError(f"weights come from a file: download '{source}', compare its sha256, and pass the file")
    if not (is_on_hub(source) or os.path.isfile(os.path.expanduser(source))):
        raise CheckpointError(
            f"no weights at '{source}': pass a file (.pth.tar, .pth, .safetensors, .ckpt) or a name of timm's hub, "
            "such as timm/poolformer_s12.sail_in1k"
        )


def _named_in(name: str) -> str | None:
    """Return the longest name of a backbone that stands in the name of a file or a model, dashes as underscores."""
    words = name.lower().replace("-", "_")
    found = [
        each
        for each in registry.listing(registry.BACKBONES)
        if re.search(rf"(?<![a-z0-9]){re.escape(each)}(?![a-z0-9])", words)
    ]
    return max(found, key=len, default=None)


def _record(path: str) -> dict[str, Any] | None:
    """Return what `poolformer export` says in a safetensors file; None for anybody else's."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="np") as file:
            saved = json.loads((file.metadata() or {}).get(RECORD_IN_FILES, "null"))
    except Exception:  # of a damaged file: who reads its weights says what is wrong
        return None
    return saved if isinstance(saved, dict) and isinstance(saved.get("backbone"), str) else None


def _of_record(path: str, record: dict[str, Any]) -> Published:
    from ..network.frame_options import FRAME  # torch: 2 s

    frame, names = record.get("frame"), record.get("class_names")
    model = {"backbone": record["backbone"]}
    model |= {name: frame[name] for name in FRAME if name in frame} if isinstance(frame, dict) else {}
    model |= {name: record[name] for name in ("mean", "std") if isinstance(record.get(name), list)}
    model |= {"in_chans": len(model["mean"])} if len(model.get("mean", "RGB")) != 3 else {}
    size, crop = record.get("image_size"), record.get("crop_pct")
    return Published(
        path,
        model,
        size if isinstance(size, int) else 224,
        crop if isinstance(crop, float) and 0 < crop <= 1 else 0.9,
        record.get("orient") is True,
        [str(name) for name in names] if isinstance(names, list) else None,
    )


def _of_timm(source: str, model: str) -> Published:
    import timm  # 4 s

    known: Any = timm.get_pretrained_cfg(model.removeprefix(TIMM))
    if known is None:
        raise CheckpointError(f"timm {timm.__version__} knows no weights called {model.removeprefix(TIMM)!r}")
    options = {"backbone": model, "mean": list(known.mean), "std": list(known.std)}
    return Published(source, options, known.input_size[-1], known.crop_pct)
