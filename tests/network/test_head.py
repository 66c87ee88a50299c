"""The head of two layers; that of one is tested with the frame, in test_metaformer.py."""

from functools import partial

import pytest
import torch
from torch import nn

from poolformer.network.head import Head, MLPClassifier

wide = partial(Head, 8, norm=partial(nn.LayerNorm, eps=1e-6), mean_first=True, mlp=True)


def test_two_layers_are_linear_squared_relu_norm_linear():
    head, x = wide(5).double(), torch.randn(3, 8, 2, 4, dtype=torch.float64)
    for parameter in head.parameters():
        nn.init.uniform_(parameter, -1, 1)
    mean = x.mean((2, 3))
    pooled = (mean - mean.mean(1, keepdim=True)) / torch.sqrt(mean.var(1, correction=0, keepdim=True) + 1e-6)
    pooled = pooled * head.norm.weight + head.norm.bias
    hidden = (pooled @ head.fc.fc1.weight.T + head.fc.fc1.bias).clamp(min=0) ** 2
    mean, var = hidden.mean(1, keepdim=True), hidden.var(1, correction=0, keepdim=True)
    hidden = (hidden - mean) / torch.sqrt(var + 1e-5) * head.fc.norm.weight + head.fc.norm.bias
    torch.testing.assert_close(head(x), hidden @ head.fc.fc2.weight.T + head.fc.fc2.bias, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(head(x, pre_logits=True), pooled, rtol=1e-12, atol=1e-12)


def test_dropout_is_of_training_alone():
    head, x = wide(5, dropout=0.5), torch.randn(2, 8, 2, 2)
    assert not torch.equal(head(x), head(x))
    head.eval()
    assert torch.equal(head(x), head(x))


@pytest.mark.parametrize(("classes", "last"), [(5, nn.Linear), (0, nn.Identity)])
def test_the_last_layer_makes_the_logits(classes, last):
    head = wide(classes)
    assert type(head.last_layer()) is last
    assert isinstance(head.fc, MLPClassifier) == bool(classes)
