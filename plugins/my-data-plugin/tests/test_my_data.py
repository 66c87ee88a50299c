import torch
from my_data_plugin import MyData


def images_of(data, loader):
    data.setup("fit")
    return [torch.cat(parts) for parts in zip(*getattr(data, loader)(), strict=True)]


def test_batches_are_what_the_model_takes():
    images, labels = images_of(MyData(batch_size=8, images=32, image_size=12), "train_dataloader")
    assert (images.shape, images.dtype) == ((32, 3, 12, 12), torch.uint8)
    assert (labels.shape, labels.dtype) == ((32,), torch.int64)
    assert labels.unique().tolist() == list(range(len(MyData.class_names)))


def test_what_is_validated_is_the_same_each_time_and_not_trained_on():
    images, labels = images_of(MyData(images=64), "val_dataloader")
    again, same_labels = images_of(MyData(images=64), "val_dataloader")
    assert torch.equal(images, again)
    assert torch.equal(labels, same_labels)
    trained, _ = images_of(MyData(images=64, batch_size=64), "train_dataloader")
    assert not (trained[:, None] == images[None]).flatten(2).all(2).any()


def test_a_class_is_a_direction():
    images, labels = images_of(MyData(images=64, noise=0.0), "val_dataloader")
    horizontal, vertical = images[labels == 0].float(), images[labels == 2].float()
    assert horizontal.diff(dim=3).abs().max() == 0
    assert vertical.diff(dim=2).abs().max() <= 1
