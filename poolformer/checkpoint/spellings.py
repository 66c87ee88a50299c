"""Whose names published weights have, and what ours are: the authors', timm's, mmpretrain's and transformers'.

Known are sail-sg/poolformer, sail-sg/metaformer, timm (whose names are ours), mmpretrain and Hugging Face's
transformers. The authors' later code keeps maps with their channels last and linear layers where this network has 1 x 1
convolutions, and so does timm in the stages of CAFormer with attention: the same numbers in another shape.
"""

import re
from collections.abc import Callable, Collection, Mapping

from torch import Tensor

from ..errors import CheckpointError

# What stands before every name: DDP's, torch.compile's, and a LightningModule's, which calls its network by one of
# several words; mmpretrain's and ours are `backbone`.
_PREFIX = re.compile(r"(?:module|_orig_mod|backbone|model|net)\.")
# Names of others to ours; those inside a block's mixer stay as they are. `_entry_of_network` has the rest.
_BLOCK = r"stages\.\d+\.blocks\.\d+"
_TRANSLATIONS = (
    # sail-sg/poolformer; mmpretrain differs in norm6 and head.fc
    (r"^patch_embed\.proj\.", "stem.conv."),
    (r"^norm6?\.", "head.norm."),
    (r"^head\.(?=weight$|bias$)", "head.fc."),
    # transformers
    (r"^(?:poolformer\.)?encoder\.patch_embeddings\.0\.projection\.", "stem.conv."),
    (r"^(?:poolformer\.)?encoder\.patch_embeddings\.(\d)\.projection\.", r"stages.\1.downsample.conv."),
    (r"^(?:poolformer\.)?encoder\.block\.(\d)\.", r"stages.\1.blocks."),
    (rf"^({_BLOCK})\.before_norm\.", r"\1.norm1."),
    (rf"^({_BLOCK})\.after_norm\.", r"\1.norm2."),
    (rf"^({_BLOCK})\.output\.conv([12])\.", r"\1.mlp.fc\2."),
    (r"^classifier\.", "head.fc."),
    # all of them
    (rf"^({_BLOCK})\.layer_scale_([12])$", r"\1.layer_scale\2.scale"),
)
# sail-sg/metaformer, which has a `norm` before its head and a `head.norm` inside: none may become the other.
_OF_METAFORMER = (
    (r"^downsample_layers\.0\.conv\.", "stem.conv."),
    (r"^downsample_layers\.0\.post_norm\.", "stem.norm."),
    (r"^downsample_layers\.(\d)\.conv\.", r"stages.\1.downsample.conv."),
    (r"^downsample_layers\.(\d)\.pre_norm\.", r"stages.\1.downsample.norm."),
    (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"^head\.", "head.fc."),
    (r"^norm\.", "head.norm."),
)


def without_prefixes(weights: Mapping[str, Tensor], network: Collection[str], source: str) -> dict[str, Tensor]:
    """Take away what DDP, torch.compile and a LightningModule put before every name.

    Args:
        weights: By names with or without.
        network: Names of the network, which may begin with such a word themselves.
        source: Where the weights are from, for messages.

    Raises:
        CheckpointError: Two tensors have one name then.
    """
    first_words = {key.partition(".")[0] for key in network}

    def bare(key: str) -> str:
        names = [key]
        while match := _PREFIX.match(names[-1]):
            names.append(names[-1][match.end() :])
        alike = (name for name in names if name.partition(".")[0] in first_words)
        return next((name for name in names if name in network), next(alike, names[-1]))

    return _renamed(weights, bare, source)


def as_convolutions(weights: Mapping[str, Tensor], network: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with linear layers (O, I) as 1 x 1 convolutions (O, I, 1, 1) where the network has these."""
    return {
        key: value[..., None, None] if key in network and network[key].shape == (*value.shape, 1, 1) else value
        for key, value in weights.items()
    }


def in_our_names(weights: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], list[str]]:
    """Translate the names of a MetaFormer's weights, and say what is left out.

    Args:
        weights: By anybody's names, without prefixes.
        source: Where they are from, for messages.

    Returns:
        The weights by our names, and what to say of it.

    Raises:
        CheckpointError: Two tensors have one name then.
    """
    if any(key.startswith("downsample_layers.") for key in weights):
        return _renamed(weights, lambda key: _translated(key, _OF_METAFORMER), source), []
    notes = []
    if any(re.match(r"norm[024]\.", key) for key in weights):
        weights = {key: value for key, value in weights.items() if not re.match(r"norm[0246]\.", key)}
        notes.append("it is a detection backbone; its norms after the stages are left out")
    embeddings = [int(match[1]) for key in weights if (match := re.match(r"network\.(\d)\.pos_embed$", key))]

    def translate(key: str) -> str:
        if match := re.match(r"network\.(\d)\.(.+)$", key):
            key = _entry_of_network(int(match[1]), match[2], embeddings)
        return _in_every_row(key, _TRANSLATIONS)

    return _renamed(weights, translate, source), notes


def _entry_of_network(index: int, rest: str, embeddings: list[int]) -> str:
    """Translate an entry of the authors' `network`: stages, downsamplings, a hybrid's position embedding."""
    if rest == "pos_embed":
        return f"stages.{index // 2}.pos_embed"
    index -= sum(embedding < index for embedding in embeddings)
    if index % 2:
        return f"stages.{(index + 1) // 2}.downsample.{rest.replace('proj.', 'conv.')}"
    return f"stages.{index // 2}.blocks.{rest}"


def _translated(key: str, rows: tuple[tuple[str, str], ...]) -> str:
    """Translate by the first row that matches."""
    matching = (re.sub(theirs, ours, key) for theirs, ours in rows if re.search(theirs, key))
    return next(matching, key)


def _in_every_row(key: str, rows: tuple[tuple[str, str], ...]) -> str:
    for theirs, ours in rows:
        key = re.sub(theirs, ours, key)
    return key


def _renamed(weights: Mapping[str, Tensor], rename: Callable[[str], str], source: str) -> dict[str, Tensor]:
    renamed = {rename(key): value for key, value in weights.items()}
    if len(renamed) < len(weights):
        raise CheckpointError(f"'{source}' has two tensors of one name, once under another's: it is a mixture")
    return renamed
