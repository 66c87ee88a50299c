"""Published weights: from a file or from timm's hub into a backbone, whoever named them.

Files are read as data and fit exactly or not at all; only the head may stay fresh. Known are the names in
`poolformer.checkpoint.spellings`, and the checkpoints of our own runs.
"""

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..counts import counted
from ..errors import CheckpointError, MisfitError, describe
from ..network.metaformer import MetaFormer
from ..network.mixer_spec import Mixer, MixerSpec, option_parameters, resolve
from .first_layer import fit_channels
from .hub import TIMM, fetch, is_on_hub
from .published import check_file
from .reading import read
from .record import RECORD, differences
from .skipping import MIXERS, hint, patterns_of, skip_tensors, summary
from .spellings import as_convolutions, in_our_names, without_prefixes

# A word in the name of a file or of its tensors, and the mixer of the stages whose mixer has no weights.
_MIXER_HINTS = (
    ("identity", "identity"),
    ("metaformer_id_", "identity"),
    ("metaformer_pp", "pooling"),  # the hybrids: pppa, ppaa, pppf, ppff
    ("poolformer", "pooling"),
)
# Networks with the mean before the last norm in timm and behind it here.
_OF_TIMM_TOO = tuple(f"poolformer_{size}" for size in ("s12", "s24", "s36", "m36", "m48"))


def load_pretrained(
    backbone: nn.Module,
    source: str | Path,
    *,
    name: str,
    mixer: MixerSpec | None = "pooling",
    image_size: int = 224,
    skip: str | Sequence[str] | None = None,
) -> list[str]:
    """Load published weights into a backbone.

    Args:
        backbone: The network, as `create_backbone` builds it.
        source: A file (.pth.tar, .pth, .safetensors, .ckpt), or ``timm/<model>`` for what timm downloads,
            or ``hf-hub:user/repo`` for the weights of a repository of the Hugging Face hub.
        name: The backbone's name, for messages and to compare with a checkpoint's record.
        mixer: The token mixer that it was built with; None where the name says it, as of IdentityFormer.
        image_size: Side of the images in pixels, for timm's models of a fixed size.
        skip: Tensors that are left out and start fresh: ``mixers`` for those of the token mixers, or patterns of the
            network's names, such as ``stages.3.*``.

    Returns:
        What the user should know, a line each: a fresh head, another token mixer, what was skipped.

    Raises:
        CheckpointError: The weights are not available, or not without running code.
        MisfitError: They are of another network.
    """
    source = str(source)
    from_hub = source.startswith(TIMM)
    content = _from_hub(source, image_size) if from_hub else _from_file(fetch(source) if is_on_hub(source) else source)
    found, notes, was_timms = _state_dict(content, source)
    network = backbone.state_dict()
    found = _without_prefixes(found, network, source, of_a_run=RECORD in content)
    weights = dict(found)
    if isinstance(backbone, MetaFormer) and RECORD not in content:
        if found.keys() != network.keys():
            weights, more = in_our_names(found, source)
            notes += more
        weights = as_convolutions(weights, network)

    classifier, patterns, has_mixers = _classifier(backbone), patterns_of(skip), isinstance(backbone, MetaFormer)
    given = set(weights)
    backbone.head_classes = _classes(weights, network, classifier)  # type: ignore[assignment]  # an int, or None
    skipped = skip_tensors(weights, network, patterns, source=source, has_mixers=has_mixers)
    notes += fit_channels(weights, backbone)
    fresh = (
        _drop_other_head(weights, network, classifier, notes)
        if classifier and not _is_of(classifier, skipped)
        else set()
    )
    fresh |= skipped
    _copy(weights, backbone, fresh, what=f"'{source}'", name=name)
    notes += _not_finite(backbone, weights)

    if patterns:
        left_out = given - weights.keys()
        notes.append(summary(loaded=len(weights), fresh=fresh - weights.keys(), left_out=left_out))
    if RECORD in content:
        notes += [] if MIXERS in patterns else differences(content, backbone=name, mixer=mixer)
        if not (classifier and _is_of(classifier, fresh)):  # what the logits of its head mean
            backbone.class_names = content[RECORD].get("class_names")
    elif isinstance(backbone, MetaFormer) and mixer is not None:
        notes += [] if MIXERS in patterns else _mixer_notes(backbone, source, found, mixer)
        has_timms_names = "stem.conv.weight" in found and "head.fc.weight" in weights
        if not from_hub and has_timms_names and was_timms is not False and name in _OF_TIMM_TOO:
            notes.append(
                "its names are timm's: if timm >= 0.9 trained it, logits differ from timm's, which takes the mean "
                "before the last norm; features are equal"
            )
    return [f"'{source}': {note}" for note in notes]


def _without_prefixes(
    found: dict[str, Tensor], network: Mapping[str, Tensor], source: str, *, of_a_run: bool
) -> dict[str, Tensor]:
    """Return weights without what stands before the names of a network."""
    if of_a_run:  # one prefix, and the network's own names
        return {key.removeprefix("backbone."): value for key, value in found.items() if key.startswith("backbone.")}
    return found if found.keys() == network.keys() else without_prefixes(found, network, source)


def _copy(weights: Mapping[str, Tensor], backbone: nn.Module, fresh: Collection[str], *, what: str, name: str) -> None:
    """Copy weights into a backbone, of which those in ``fresh`` may be missing.

    Raises:
        CheckpointError: They have no values.
        MisfitError: They are of another network.
    """
    network = backbone.state_dict()
    misfit = compare(weights, network, fresh)
    # Shapes that differ are the network's own affair at first: it may resample a position embedding.
    cause, names_fit = None, not misfit["unexpected"] and not misfit["missing"]
    if names_fit:
        try:
            backbone.load_state_dict(weights, strict=False)  # what may be missing is known by now
        except RuntimeError as error:
            cause = error
    if cause and not misfit["other_shapes"]:  # such as tensors without values
        raise CheckpointError(f"the tensors of {what} cannot be copied: {describe(cause)[:200]}") from cause
    if cause or not names_fit:
        explained = explain(misfit, weights, network)
        raise MisfitError(f"{what} does not fit backbone {name}: {explained}{hint(misfit)}", **misfit) from cause


def _not_finite(backbone: nn.Module, weights: Collection[str]) -> list[str]:
    """Say which weights, by their names, are no numbers; among buffers there may be a mask of -inf."""
    broken = [name for name, one in backbone.named_parameters() if not one.is_meta and not one.isfinite().all()]
    broken += [name for name, one in backbone.named_buffers() if not one.is_meta and one.isnan().any()]
    if not (broken := [name for name in broken if name in weights]):
        return []
    return [
        f"{len(broken)} of its {len(weights)} tensors have values that are not finite (first {broken[0]!r}): it is "
        "damaged or of a run that diverged, and what a network makes with it is worth nothing"
    ]


def _from_hub(source: str, image_size: int) -> dict[str, Any]:
    import timm  # 4 s

    model = source.removeprefix(TIMM)
    # timm has loads that do not say weights_only, and this turns the default off.
    os.environ.pop("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", None)
    try:
        known = timm.get_pretrained_cfg(model)
        fixed: dict[str, Any] = {"img_size": image_size} if getattr(known, "fixed_input_size", False) else {}
        # Where the address ends with the start of a sha256; timm takes shorter words such as -300e for one, too.
        has_hash = re.search(r"-[0-9a-f]{8,}\.\w+$", getattr(known, "url", None) or "")
        timm.models.set_pretrained_check_hash(bool(has_hash))
        return timm.create_model(model, pretrained=True, **fixed).state_dict()
    except Exception as error:  # a download fails in a dozen ways
        raise CheckpointError(
            f"timm cannot give weights called {model!r}: {describe(error).partition('. ')[0]}; "
            "without internet, download them elsewhere and pass the file"
        ) from error


def _from_file(source: str) -> dict[str, Any]:
    check_file(source)
    path = Path(source).expanduser()
    if path.suffix != ".safetensors":
        return read(path)
    from safetensors import safe_open

    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
            exported = (file.metadata() or {}).get(RECORD)
    except Exception as error:  # as in `read`
        raise CheckpointError(f"'{source}' is not a safetensors file: {describe(error)[:200]}") from error
    if exported is None:
        return weights
    try:
        saved = json.loads(exported)
        if not isinstance(saved, dict):
            raise ValueError(f"a record is a mapping, not {type(saved).__name__}")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"'{source}': its record is not one that poolformer export writes") from error
    return {"state_dict": {f"backbone.{name}": value for name, value in weights.items()}, RECORD: saved}


def _state_dict(content: Mapping[str, Any], source: str) -> tuple[dict[str, Tensor], list[str], bool | None]:
    """Return the state dict, flat or nested, what to say of it, and whether it is of a network of timm's.

    That is told by the modules without weights, which PyTorch keeps beside a state dict and no other format does: None
    where there are none.
    """
    places = [key for key in ("state_dict_ema", "state_dict", "model") if isinstance(content.get(key), Mapping)]
    nested = content[places[0]] if places else content
    if not nested or not all(isinstance(key, str) and isinstance(value, Tensor) for key, value in nested.items()):
        found = ", ".join(f"{_short(key)}: {type(value).__name__}" for key, value in list(nested.items())[:4])
        raise CheckpointError(
            f"'{source}' has no state dict, neither flat nor under 'state_dict' or 'model', but {found or 'nothing'}"
        )
    averaged = places[:1] == ["state_dict_ema"]
    modules = getattr(nested, "_metadata", None)
    was_timms = any(str(each).endswith("head.global_pool") for each in modules) if modules else None
    return dict(nested), ["its averaged weights (EMA) are taken, as timm does"] if averaged else [], was_timms


def _short(key: Any) -> str:
    return repr(key[:40]) if isinstance(key, str) else type(key).__name__


def _drop_other_head(
    weights: dict[str, Tensor], network: Mapping[str, Tensor], head: str, notes: list[str]
) -> set[str]:
    """Leave out a linear layer for other classes; return the names of the network that stay fresh."""
    theirs, ours = (
        tensors[f"{head}.weight"].shape[:1] if f"{head}.weight" in tensors else () for tensors in (weights, network)
    )
    if theirs == ours != ():
        return set()
    whole = head.rpartition(".")[0] or head  # with the norm before the linear layer
    part = head if any(key.startswith(f"{whole}.") for key in weights) else whole
    for key in [key for key in weights if key.startswith(f"{head}.")]:
        del weights[key]
    fresh = {key for key in network if key.startswith(f"{part}.")}
    if fresh:
        found = (
            f"it is for {counted(theirs[0], 'class')}, the network for {ours[0]}"
            if theirs and ours
            else "it has no head"
        )
        notes.append(f"{found}: the network's head is fresh and has to be trained")
    return fresh


def _classes(weights: Mapping[str, Tensor], network: Mapping[str, Tensor], head: str | None) -> int | None:
    """Return how many classes the head of weights is for; None where they have none.

    Of a network that does not say which layer makes its logits, the head fits.
    """
    if head is None:
        return -1
    shape = weights[f"{head}.weight"].shape if f"{head}.weight" in weights else ()
    return shape[0] if shape else None


def _is_of(layer: str, names: Collection[str]) -> bool:
    return f"{layer}.weight" in names


def _classifier(backbone: nn.Module) -> str | None:
    """Return the name of the layer that makes the logits, None for a network that does not say."""
    get_classifier = getattr(backbone, "get_classifier", None)
    layer = None if get_classifier is None else get_classifier()
    return next((name for name, module in backbone.named_modules() if name and module is layer), None)


def compare(
    weights: Mapping[str, Tensor], network: Mapping[str, Tensor], fresh: Collection[str] = ()
) -> dict[str, list[str]]:
    """Return the names, sorted, that do not fit, as the arguments of `MisfitError`; ``fresh`` may be missing."""
    both = weights.keys() & network.keys()
    return {
        "unexpected": sorted(weights.keys() - network.keys()),
        "missing": sorted(network.keys() - weights.keys() - set(fresh)),
        "other_shapes": sorted(key for key in both if weights[key].shape != network[key].shape),
    }


def explain(misfit: Mapping[str, list[str]], weights: Mapping[str, Tensor], network: Mapping[str, Tensor]) -> str:
    """Say in one line how weights do not fit a network, with the first few names of each kind."""

    def first(keys: list[str]) -> str:
        shapes = {
            key: f" {tuple(weights[key].shape)}, here {tuple(network[key].shape)}" for key in misfit["other_shapes"]
        }
        return "; ".join(f"{key[:80]!r}{shapes.get(key, '')}" for key in keys[:3]) + (" ..." if keys[3:] else "")

    titles = {"unexpected": "only in the file", "missing": "only in the network", "other_shapes": "of another shape"}
    parts = [
        f"{len(keys)} tensor{'s' * (len(keys) > 1)} {titles[kind]} ({first(keys)})"
        for kind, keys in misfit.items()
        if keys
    ]
    theirs, ours = _size(weights), _size(network)
    if theirs and ours and theirs != ours:
        parts.append(f"it has {theirs}, the network {ours}")
    elif any("token_mixer." in key or "pos_embed" in key for key in misfit["other_shapes"]):
        parts.append("what depends on the number of tokens fits at the image size it was trained at")
    return ", ".join(parts)


def _size(weights: Mapping[str, Tensor]) -> str:
    """Return the depths and dims of a MetaFormer by its weights, empty for another network."""
    convs = ["stem.conv.weight", *(f"stages.{stage}.downsample.conv.weight" for stage in (1, 2, 3))]
    blocks = {match[0] for key in weights if (match := re.match(r"stages\.\d\.blocks\.\d+\.", key))}
    depths = [sum(block.startswith(f"stages.{stage}.") for block in blocks) for stage in range(4)]
    dims = [weights[conv].shape[0] for conv in convs if conv in weights and weights[conv].ndim]
    return f"depths {depths} and dims {dims}" if len(dims) == len(convs) else ""


def _mixer_notes(backbone: MetaFormer, source: str, found: Mapping[str, Tensor], mixer: MixerSpec) -> list[str]:
    """Compare the mixers that leave no trace in weights with what names tell."""
    stages = zip(resolve(mixer), backbone.stages, strict=True)
    silent = [one for one, stage in stages if not any(".token_mixer." in key for key in stage.state_dict())]
    words = " ".join([Path(source).name, *found]).lower()
    trained = next((hint for word, hint in _MIXER_HINTS if word in words), None)
    if all(trained and _is_plain(one, trained) for one in silent):
        return []
    asked = ", ".join(sorted({str({"name": one.name, **one.options}) if one.options else one.name for one in silent}))
    if trained:
        return [f"by its name it was trained with token mixer {trained}, not {asked}"]
    return [f"it does not say which token mixer it was trained with; make sure that it was {asked}"]


def _is_plain(mixer: Mixer, name: str) -> bool:
    defaults = option_parameters(mixer.factory)
    return mixer.name == name and all(defaults[option].default == value for option, value in mixer.options.items())
