import pytest
import torch
from my_backbone_plugin import MyBackbone

from poolformer import create_backbone


@pytest.mark.parametrize("size", [(8, 8), (10, 14)])
def test_images_of_any_size_become_logits(size):
    backbone = create_backbone("my_backbone_plugin:MyBackbone", num_classes=10)
    assert backbone(torch.randn(2, 3, *size)).shape == (2, 10)


def test_every_parameter_has_a_gradient():
    backbone = MyBackbone(num_classes=3, width=8, depth=2)
    backbone(torch.randn(2, 3, 8, 8)).square().sum().backward()
    assert [name for name, each in backbone.named_parameters() if each.grad is None or not each.grad.any()] == []


def test_a_batch_is_learnt_by_heart():
    torch.manual_seed(0)
    backbone, images, labels = (
        MyBackbone(num_classes=4, width=16, depth=2),
        torch.randn(8, 3, 8, 8),
        torch.arange(8) % 4,
    )
    optimizer = torch.optim.AdamW(backbone.parameters(), 1e-2)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(backbone(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.1
