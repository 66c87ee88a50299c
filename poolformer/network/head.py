"""The head of a MetaFormer: from the last stage's map to logits.

Shapes: B batch, C channels, H and W tokens along height and width, K classes. Parameter names are timm's.
"""

from collections.abc import Callable

from torch import Tensor, nn

from .layers import init_linear


class Head(nn.Module):
    """Classifier in the authors' order: norm on the map, mean over H and W, linear.

    timm >= 0.9 takes the mean first; its features are equal to these, its logits are not.

    Args:
        dim: Channels C.
        num_classes: Classes K; 0 for a head that gives its pooled features.
        norm: From C to the norm; of (B, C) with ``mean_first``, else of (B, C, H, W).
        mean_first: Take the mean before the norm, as in the follow-up paper.
        mlp: Classify by a layer more, as ConvFormer and CAFormer do (`MLPClassifier`).
        dropout: Probability of a hidden value of ``mlp`` to be zero in training.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        norm: Callable[[int], nn.Module],
        *,
        mean_first: bool = False,
        mlp: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.mean_first, self.mlp, self.dropout, self.dim = mean_first, mlp, dropout, dim
        self.norm = norm(dim)
        self.fc = self._classifier(num_classes)

    def norm_map(self, x: Tensor) -> Tensor:
        """Put a map (B, C, H, W) through the norm."""
        x = self.norm(x.movedim(1, -1)).movedim(-1, 1) if self.mean_first else self.norm(x)
        return x

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Make logits (B, K) of a map (B, C, H, W), or the features (B, C) that they are made of."""
        pooled: Tensor = self.norm(x.mean((2, 3))) if self.mean_first else self.norm(x).mean((2, 3))  # (B, C)
        if pre_logits:
            return pooled
        logits: Tensor = self.fc(pooled)
        return logits

    def last_layer(self) -> nn.Module:
        """Return the linear layer that makes the logits; the identity without classes."""
        return self.fc.fc2 if isinstance(self.fc, MLPClassifier) else self.fc

    def reset(self, num_classes: int) -> None:
        """Replace that layer by a fresh one for other classes; the layer before it stays. 0 removes both."""
        if isinstance(self.fc, MLPClassifier) and num_classes:
            self.fc.fc2 = _linear(self.fc.fc2.in_features, num_classes).train(self.training)
        else:
            self.fc = self._classifier(num_classes).train(self.training)

    def _classifier(self, num_classes: int) -> nn.Module:
        if num_classes == 0:
            return nn.Identity()
        return MLPClassifier(self.dim, num_classes, self.dropout) if self.mlp else _linear(self.dim, num_classes)


class MLPClassifier(nn.Module):
    """Linear, squared ReLU, layer norm, linear: the head of ConvFormer and CAFormer (arXiv 2210.13452, sec. 3).

    Its norm has PyTorch's eps of 1e-5, as the authors' code; timm's has 1e-6, and logits that differ by 3e-4.

    Args:
        dim: Channels C; there are ``4 * dim`` hidden ones.
        num_classes: Classes K.
        dropout: Probability of a hidden value to be zero in training.
    """

    def __init__(self, dim: int, num_classes: int, dropout: float):
        super().__init__()
        self.fc1 = _linear(dim, 4 * dim)
        self.norm = nn.LayerNorm(4 * dim)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = _linear(4 * dim, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.fc1(x).relu().square())
        logits: Tensor = self.fc2(self.dropout(hidden))
        return logits


def _linear(dim: int, num_classes: int) -> nn.Linear:
    layer = nn.Linear(dim, num_classes)
    init_linear(layer)
    return layer
