"""Trains a RetinaNet by the paper's recipe: AdamW, mmdetection's schedule of 12 epochs, mAP as COCO counts it."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision
from torchvision.utils import draw_bounding_boxes

from poolformer.errors import ConfigError, DataError, ResolutionError

from .boxes import Target
from .networks import CHANNELS, retinanet
from .pictures import boards, side_by_side
from .steps import steps_of

Batch = tuple[list[Tensor], list[Target]]
_SHOWN, _LEAST_SCORE = 4, 0.3  # images of a picture, and of the boxes in it


class Detector(pl.LightningModule):
    """Boxes with classes and scores: uint8 images (3, H, W) of any sizes, targets as of `boxes.Target`.

    The recipe is sail-sg/poolformer:detection/configs/retinanet_poolformer_s12_fpn_1x_coco.py, mmdetection's 1x: images
    whose shorter side is 800 and whose longer is 1333 at most, AdamW on batches of 16, a rate that rises for 500 steps
    and falls to a tenth after 8 and after 11 of 12 epochs. A longer or shorter training falls at the same shares.

    Args:
        backbone: Name that 'poolformer models' lists.
        num_classes: Classes K, without one for the background.
        mixer: Token mixer that 'poolformer mixers' lists, its mapping or four of them; null for the backbone's own.
        channels: Of the feature pyramid network and of the heads.
        image_size: Side in pixels that all images are brought to, for mixers that depend on the number of tokens; null
            to keep the shape of each.
        pretrained: Weights of a classifier, as of poolformer.create_backbone.
        lr: Learning rate, for batches of 16.
        weight_decay: Of all parameters.
        drop_path_rate: Stochastic depth of the last block.
        min_size: Shorter side in pixels that images are brought to, where image_size is null.
        max_size: Longest that the longer side may become, where image_size is null.
        anchor_size: Side in pixels of the smallest anchors; those of each further level are twice as large.
        warmup_steps: Steps in which the learning rate rises.
    """

    def __init__(
        self,
        backbone: str = "poolformer_s12",
        num_classes: int = 80,
        mixer: str | dict[str, Any] | list[str | dict[str, Any]] | None = None,
        channels: int = CHANNELS,
        image_size: int | None = None,
        pretrained: str | None = None,
        lr: float = 1e-4,
        weight_decay: float = 1e-4,
        drop_path_rate: float | None = None,
        min_size: int = 800,
        max_size: int = 1333,
        anchor_size: int = 32,
        warmup_steps: int = 500,
    ):
        super().__init__()
        if num_classes < 1:
            raise ConfigError(f"--model.num_classes {num_classes}: there is one class at least, beside the background")
        self.save_hyperparameters(ignore="pretrained")
        options = {"mixer": mixer, "pretrained": pretrained, "drop_path_rate": drop_path_rate}
        if image_size:
            options["image_size"] = image_size
        self.network = retinanet(
            backbone,
            num_classes=num_classes,
            channels=channels,
            anchor_size=anchor_size,
            options=options,
            min_size=min_size,
            max_size=max_size,
            fixed_size=(image_size, image_size) if image_size else None,
            detections_per_img=100,  # as many as COCO counts
        )
        self.map = MeanAveragePrecision()

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        """Return boxes (N, 4) in pixels, scores (N,) and labels (N,) of each uint8 image; in evaluation mode."""
        return self._call_network(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = batch
        single = [target["iscrowd"] == 0 for target in targets]
        targets = [{k: t[k][one] for k in ("boxes", "labels")} for t, one in zip(targets, single, strict=True)]
        losses = self._call_network(images, targets)
        loss = losses["classification"] + losses["bbox_regression"]
        shown = {
            "train/loss": loss,
            "train/loss_class": losses["classification"],
            "train/loss_box": losses["bbox_regression"],
        }
        self.log_dict(shown, prog_bar=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        found = self(images)
        self.map.update(found, targets)
        if batch_idx == 0:
            self._show(images[:_SHOWN], targets[:_SHOWN], found[:_SHOWN])

    def on_validation_epoch_end(self) -> None:
        # Processes differ by an image, and torchmetrics gathers image by image: fill up with images without a box.
        images = len(self.map.groundtruth_labels)
        most = self.trainer.strategy.reduce(torch.tensor(images, device=self.device), reduce_op="max")
        for _ in range(int(most) - images):
            self.map.update([_nothing(self.device)], [_nothing(self.device)])
        values = self.map.compute()
        self.map.reset()
        shown = {"val/map": values["map"], "val/map50": values["map_50"], "val/map75": values["map_75"]}
        self.log_dict(shown, prog_bar=True, sync_dist=True)

    test_step, on_test_epoch_end = validation_step, on_validation_epoch_end

    def predict_step(self, batch: Batch, batch_idx: int) -> list[dict[str, Tensor]]:
        """Return boxes, scores and labels of each image."""
        return self(batch[0])

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
        steps, warmup = steps_of(self.trainer), self.hparams.warmup_steps

        def factor(step: int) -> float:
            return min(1.0, (step + 1) / max(warmup, 1)) * 0.1 ** ((step >= steps * 8 / 12) + (step >= steps * 11 / 12))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _call_network(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Any:
        try:
            return self.network(self._scaled(images), targets)
        except ResolutionError as error:
            what = str(error).partition(":")[0]
            raise ConfigError(f"{what}: set --model.image_size, to which all images are then brought") from error

    def _scaled(self, images: list[Tensor]) -> list[Tensor]:
        """Return images of 0 to 1; refuse those that would have no pixel across once the longer side is `max_size`."""
        options = self.hparams
        for height, width in () if options.image_size else (image.shape[1:] for image in images):
            if max(height, width) >= options.max_size * min(height, width):
                raise DataError(
                    f"an image of {width} x {height} pixels is too long to be resized to --model.max_size "
                    f"{options.max_size}: leave it out, or set --model.image_size"
                )
        return [image / 255 for image in images]

    def _show(self, images: list[Tensor], targets: list[Target], found: list[dict[str, Tensor]]) -> None:
        """Draw what is true over what is said, image by image, into TensorBoard."""
        if not boards(self):
            return
        names = getattr(self.trainer.datamodule, "class_names", ()) or range(self.hparams.num_classes)
        columns = []
        for image, target, said in zip(images, targets, found, strict=True):
            sure = {key: value[said["scores"] >= _LEAST_SCORE] for key, value in said.items()}
            columns.append(torch.cat([_drawn(image, target, names), _drawn(image, sure, names)], dim=1))
        for board in boards(self):
            board.experiment.add_image("val/boxes, predictions", side_by_side(columns), self.global_step)


def _nothing(device: torch.device) -> dict[str, Tensor]:
    none = torch.zeros(0, device=device)
    return {"boxes": none.reshape(0, 4), "scores": none, "labels": none.long()}


def _drawn(image: Tensor, found: dict[str, Tensor], names: Any) -> Tensor:
    said = [str(names[label]) for label in found["labels"].tolist()]
    if "scores" in found:
        said = [f"{name} {score:.2f}" for name, score in zip(said, found["scores"].tolist(), strict=True)]
    return draw_bounding_boxes(image.cpu(), found["boxes"].cpu(), said, colors="yellow") if said else image.cpu()
