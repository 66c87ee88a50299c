"""The blocks of a MetaFormer on the bytes of a text, which lie in a map of one row: (B, C, 1, L).

Every token mixer of the registry works unchanged. Shapes: B batch, C channels, L bytes, K classes.
"""

from functools import partial

import torch
from torch import Tensor, nn

from poolformer.errors import OptionsError
from poolformer.network.block import Block, BlockOptions
from poolformer.network.layers import ACTIVATIONS, choose, init_linear, make_norm
from poolformer.network.metaformer import Activation
from poolformer.network.mixer_spec import NUM_STAGES, MixerSpec, resolve

PADDING = 256
"""The number after those of the bytes: there is no text here."""


class ByteFormer(nn.Module):
    """Bytes (B, 1, 1, L), int64 from 0 to 256, to logits (B, K).

    What stands in the padding has no part in the logits: it is embedded as zeros, which a layer norm without bias
    leaves zeros, it is zeros again after each block, and the mean at the end is that of the text. Norms over all places
    would let it in, and are refused. That there is padding, a mixer may see, as it sees the border of an image.

    Args:
        num_classes: Classes K.
        mixer: Token mixer, as for any frame; of a list of four, each has a quarter of the blocks.
        norm: ``layer`` or ``none``.
        act: Activation inside the channel MLP.
        residual: Whether the blocks have their residual connections.
        channel_mlp: Whether the blocks have their channel MLP.
        layer_scale_init: Start of the layer scales; 0 or None for none.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0 in the first.
        position_embedding: 1 adds a learned embedding of the places to that of the bytes; None adds nothing.
        image_size: Bytes L of a text; the frame's name of what the number of tokens depends on.
        dim: Channels C.
        depth: Blocks, at least four.

    Raises:
        OptionsError: An option is outside its range.

    Example:
        >>> ByteFormer(10, image_size=64)(torch.zeros(2, 1, 1, 64, dtype=torch.long)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        num_classes: int,
        *,
        mixer: MixerSpec = "pooling",
        norm: str = "layer",
        act: Activation = "gelu",
        residual: bool = True,
        channel_mlp: bool = True,
        layer_scale_init: float | None = None,
        drop_path_rate: float = 0.0,
        position_embedding: int | None = None,
        image_size: int = 128,
        dim: int = 64,
        depth: int = 8,
    ):
        super().__init__()
        if norm not in ("layer", "none"):
            raise OptionsError(f"norm {norm!r} takes its statistics over the padding of a text as well: layer or none")
        if depth < NUM_STAGES or dim < 1 or position_embedding not in (None, 1):
            raise OptionsError(
                f"depth={depth} is at least {NUM_STAGES}, dim={dim} positive, position_embedding={position_embedding} "
                "1 or nothing"
            )
        options = BlockOptions(
            norm=partial(make_norm, kind=norm, bias=False),
            act=choose("act", act, ACTIVATIONS),
            mlp_ratio=4.0,
            mlp_bias=True,
            layer_scale_init=layer_scale_init,
            residual_scale_init=None,
            residual=residual,
            channel_mlp=channel_mlp,
        )
        self.num_classes, self.num_features, self.length = num_classes, dim, image_size
        self.embedding = nn.Embedding(PADDING + 1, dim, padding_idx=PADDING)
        nn.init.trunc_normal_(self.embedding.weight[:PADDING].data, std=0.02)
        self.pos_embed = nn.Parameter(torch.zeros(1, dim, 1, image_size)) if position_embedding else None
        mixers, last = resolve(mixer), max(depth - 1, 1)
        self.blocks = nn.ModuleList(
            Block(
                dim,
                mixers[NUM_STAGES * number // depth].build(dim, resolution=(1, image_size)),
                options,
                drop_path_rate * number / last,
            )
            for number in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.fc = nn.Linear(dim, num_classes)
        init_linear(self.fc)

    def example_input(self) -> Tensor:
        """Return a text of the bytes 0, 1, 2 and so on, (1, 1, 1, L): what this network takes in place of images."""
        return torch.arange(self.length).remainder(PADDING).reshape(1, 1, 1, -1)

    def forward(self, texts: Tensor) -> Tensor:
        is_text = texts != PADDING  # (B, 1, 1, L)
        x = self.embedding(texts[:, 0]).permute(0, 3, 1, 2)  # (B, C, 1, L)
        if self.pos_embed is not None:
            x = x + self.pos_embed
        x = x * is_text
        for block in self.blocks:
            x = block(x) * is_text
        mean = x.sum((2, 3)) / is_text.sum((2, 3)).clamp(min=1)  # (B, C)
        logits: Tensor = self.fc(self.norm(mean))
        return logits
