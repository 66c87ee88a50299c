"""Weights for another number of channels, brought to a network's by timm's rule.

For one channel they are summed over those that they were trained on, so that a grey image gives what it gave when it
was repeated; for more they are repeated and scaled, so that the sum of all stays what it was.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from ..network.example import channels_of


def fit_channels(weights: dict[str, Tensor], backbone: nn.Module) -> list[str]:
    """Bring the weights of the convolutions that see the images to the network's number of channels, in place.

    Args:
        weights: By the network's names.
        backbone: The network.

    Returns:
        What to say of it: nothing where they are of as many channels.
    """
    channels, notes = channels_of(backbone), []
    for name, theirs in _of_other_channels(weights, backbone, channels).items():
        from timm.models import adapt_input_conv  # 4 s

        weights[name] = adapt_input_conv(channels, weights[name], base_chans=theirs)
        how = "summed" if channels == 1 else "repeated and scaled"
        notes.append(
            f"it takes images of {theirs} channel{'s' * (theirs > 1)} and the network of {channels}: the weights of "
            f"{name.removesuffix('.weight')} are {how}, by timm's rule"
        )
    return notes


def _of_other_channels(weights: Mapping[str, Tensor], backbone: nn.Module, channels: int) -> dict[str, int]:
    """Return the names of weights that differ from the network's in the number of images' channels alone, and theirs.

    A depthwise convolution is none of them: it has one channel a group, whatever the images have.
    """
    found = {}
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1 and module.in_channels == channels:
            theirs, ours = weights.get(f"{name}.weight"), module.weight
            if theirs is None or theirs.ndim != 4 or theirs.shape[1] in (0, channels):
                continue
            if (len(theirs), *theirs.shape[2:]) == (len(ours), *ours.shape[2:]):
                found[f"{name}.weight"] = theirs.shape[1]
    return found
