"""Whether the model of some settings can be built, found in a moment and before anything is trained."""

from typing import Any


def check_builds(settings: dict[str, Any]) -> None:
    """Build the model of some settings, without memory or computation for its weights.

    Raises:
        PoolformerError: It cannot be built, or takes images of one size only and these shall grow.
    """
    import torch

    from ..classifier import ImageClassifier
    from ..cli.data_section import image_size_of
    from ..errors import BrokenPluginError
    from ..network.sides import check_sides

    # Where the data is told the size, the model's is not among the settings.
    options = {
        "image_size": image_size_of(settings["data"]),
        **settings["model"],
        "pretrained": None,
        "pretrained_skip": None,
    }
    try:
        with torch.device("meta"):
            model = ImageClassifier(**options)
    except BrokenPluginError:  # which may but need real numbers
        model = ImageClassifier(**options)
    growth = settings["data"].get("init_args", {}).get("growth")
    check_sides(model.backbone, growth, name=model.hparams.backbone, image_size=model.hparams.image_size)
