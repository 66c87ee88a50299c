"""Models of settings that can be built, and that cannot."""

from pathlib import Path

import pytest

from poolformer.ablation.building import check_builds
from poolformer.cli.training import settings
from poolformer.errors import PoolformerError


@pytest.mark.parametrize("flags", [[], ["--config", "attention.yaml"], ["--model.backbone", "poolformer_s12"]])
def test_a_model_that_can_be_built_is_found_to(work, flags):
    check_builds(settings("fit", ["--config", "digits", *flags]))


def test_a_plugin_that_needs_real_numbers_can_be_built(work):
    Path("counting.py").write_text(
        "import torch\nfrom torch import nn\n\n\n"
        "class Mixer(nn.Identity):\n"
        "    def __init__(self, dim: int):\n"
        "        super().__init__()\n"
        "        self.sum = torch.ones(dim).sum().item()\n"
    )
    check_builds(settings("fit", ["--config", "digits", "--model.mixer", "counting:Mixer"]))


def test_a_model_that_cannot_be_built_is_told_why(work):
    with pytest.raises(PoolformerError, match="pool_size must be odd"):
        check_builds(settings("fit", ["--config", "digits", "--config", "even.yaml"]))
