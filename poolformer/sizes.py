"""Our own backbones in numbers, so that a listing need not build and run thirty networks: that takes half a minute.

`poolformer.network.complexity.count` makes the same numbers of the networks, and a test compares them.
"""

from typing import NamedTuple


class Size(NamedTuple):
    """Size, cost and published accuracy of a backbone with a thousand classes.

    Attributes:
        parameters: Trainable parameters.
        macs: Multiply-accumulates of one image of 224 x 224 pixels.
        frozen: Parameters that are not trained.
        top1: ImageNet-1k validation top-1 in percent, of its paper; None for what is in none.
    """

    parameters: int
    macs: int
    frozen: int = 0
    top1: float | None = None


# Accuracies: arXiv 2111.11418, table 2; arXiv 2210.13452, tables 2 and 4.
SIZES = {
    "poolformer_s12": Size(11_915_176, 1_822_678_528, 0, 77.2),
    "poolformer_s24": Size(21_388_968, 3_412_906_496, 0, 80.3),
    "poolformer_s36": Size(30_862_760, 5_003_134_464, 0, 81.4),
    "poolformer_m36": Size(56_172_520, 8_801_876_736, 0, 82.1),
    "poolformer_m48": Size(73_473_448, 11_590_708_992, 0, 82.5),
    "poolformerv2_s12": Size(11_891_712, 1_822_555_648, 0, 78.0),
    "poolformerv2_s24": Size(21_341_464, 3_412_783_616, 0, 80.7),
    "poolformerv2_s36": Size(30_791_216, 5_003_011_584, 0, 81.6),
    "poolformerv2_m36": Size(56_077_168, 8_801_692_416, 0, 82.2),
    "poolformerv2_m48": Size(73_346_056, 11_590_524_672, 0, 82.6),
    "identityformer_s12": Size(11_891_712, 1_822_555_648, 0, 74.6),
    "identityformer_s24": Size(21_341_464, 3_412_783_616, 0, 78.2),
    "identityformer_s36": Size(30_791_216, 5_003_011_584, 0, 79.3),
    "identityformer_m36": Size(56_077_168, 8_801_692_416, 0, 80.0),
    "identityformer_m48": Size(73_346_056, 11_590_524_672, 0, 80.4),
    "randformer_s12": Size(11_891_712, 1_898_772_992, 235_298, 76.6),
    "randformer_s24": Size(21_341_464, 3_565_218_304, 470_596, 78.2),
    "randformer_s36": Size(30_791_216, 5_231_663_616, 705_894, 79.5),
    "randformer_m36": Size(56_077_168, 9_078_287_616, 705_894, 81.2),
    "randformer_m48": Size(73_346_056, 11_959_318_272, 941_192, 81.4),
    "convformer_s18": Size(26_774_448, 3_940_997_120, 0, 83.0),
    "convformer_s36": Size(40_012_152, 7_639_695_872, 0, 84.1),
    "convformer_m36": Size(57_051_640, 12_842_347_968, 0, 84.5),
    "convformer_b36": Size(99_882_616, 22_629_432_576, 0, 84.8),
    "caformer_s18": Size(26_341_656, 4_106_954_240, 0, 83.6),
    "caformer_s36": Size(39_297_102, 7_971_610_112, 0, 84.5),
    "caformer_m36": Size(56_204_878, 13_240_645_056, 0, 85.2),
    "caformer_b36": Size(98_753_614, 23_160_495_360, 0, 85.5),
    "resmlp_b24": Size(115_736_776, 23_020_713_984, 0, 81.0),
    "poolformer_tiny": Size(436_888, 726_576_128, 0, None),
    "poolformer_xs12": Size(3_116_392, 1_822_598_144, 0, None),
}
PAPER_TOP1 = {name: size.top1 for name, size in SIZES.items() if size.top1 is not None}
