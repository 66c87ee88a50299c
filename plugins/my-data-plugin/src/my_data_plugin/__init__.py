"""A data module for poolformer, which finds it by the entry point in ``pyproject.toml``."""

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, TensorDataset


class MyData(LightningDataModule):
    """Stripes in noise, in four directions: made here, in place of images that would be read.

    Args:
        batch_size: Images a device and step; the learning rate grows with it.
        image_size: Side in pixels.
        images: Images to train on; a quarter as many to validate.
        noise: Standard deviation of the noise, where stripes are from -1 to 1.
    """

    class_names = ("horizontal", "rising", "vertical", "falling")

    def __init__(self, batch_size: int = 64, image_size: int = 16, images: int = 2048, noise: float = 1.0):
        super().__init__()
        self.batch_size, self.image_size, self.images, self.noise = batch_size, image_size, images, noise

    def setup(self, stage: str) -> None:
        self.train, self.val = self._stripes(self.images, seed=0), self._stripes(self.images // 4, seed=1)

    def _stripes(self, count: int, *, seed: int) -> TensorDataset:
        """Return uint8 (N, 3, H, W), levels from 0 to 255, and int64 (N,), classes from 0."""
        random = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % len(self.class_names)
        angles, places = labels * torch.pi / 4, torch.arange(self.image_size)
        across, down = angles.sin().view(-1, 1, 1) * places, angles.cos().view(-1, 1, 1) * places.view(-1, 1)
        shifts = torch.rand(count, 1, 1, generator=random) * 2 * torch.pi
        stripes = torch.sin(across + down + shifts)
        noisy = stripes[:, None] + self.noise * torch.randn(count, 3, *stripes.shape[1:], generator=random)
        return TensorDataset((128 + 48 * noisy).clamp(0, 255).to(torch.uint8), labels)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.train, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.val, self.batch_size)

    test_dataloader = val_dataloader
