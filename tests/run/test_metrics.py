"""What is measured is that of all images together."""

import pytest
import torch

from poolformer.run.metrics import Count, metrics_of


def test_metrics_are_those_of_all_images_whatever_the_batches():
    logits, target, loss = torch.randn(10, 7), torch.randint(0, 7, (10,)), torch.rand(10)
    metrics = metrics_of(7, prefix="val/")
    for part in (slice(0, 3), slice(3, 10)):
        metrics.update(preds=logits[part], target=target[part], value=loss[part])
    found = {name: value.item() for name, value in metrics.compute().items()}
    best = logits.argsort(1, descending=True)
    assert found == pytest.approx(
        {
            "val/images": 10,
            "val/loss": loss.mean().item(),
            "val/top1": (best[:, 0] == target).float().mean().item(),
            "val/top5": (best[:, :5] == target[:, None]).any(1).float().mean().item(),
        }
    )


def test_of_fewer_than_five_classes_one_is_always_among_the_likeliest():
    metrics = metrics_of(3, prefix="")
    metrics.update(preds=torch.randn(4, 3), target=torch.tensor([0, 1, 2, 0]), value=torch.zeros(4))
    assert metrics.compute()["top5"] == 1


def test_a_loss_that_is_no_number_is_none_over_all_images():
    metrics = metrics_of(3, prefix="")
    for value in (torch.ones(4), torch.full((4,), torch.nan)):
        metrics.update(preds=torch.randn(4, 3), target=torch.tensor([0, 1, 2, 0]), value=value)
    assert metrics.compute()["loss"].isnan()


def test_images_are_counted_and_forgotten():
    count = Count()
    count.update(torch.zeros(3))
    assert count.compute() == 3
    count.reset()
    count.update(torch.zeros(2))
    assert count.compute() == 2
