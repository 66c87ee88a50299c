"""The LightningModule that trains and evaluates any backbone on image classification.

Shapes: B batch, H and W pixels, K classes. Batches come from a data module as uint8 images
(B, 3, H, W) and int64 labels (B,); normalisation and mixing happen here, on the device.
"""

import os
from collections.abc import Mapping
from typing import Any, Literal

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.fabric.utilities.data import AttributeDict
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torchmetrics import MetricCollection

from . import option_ranges
from .backbones import create_backbone
from .checkpoint.record import RECORD, Saved, differences, record, saved_in
from .claims import misfit_of
from .data.batches import Batch, check_one_loader
from .data.channels import IMAGENET_MEAN, IMAGENET_STD, of_each_channel
from .data.class_names import check_resumed, imagenet_names
from .data.labels import check_head, names_to_learn
from .data.preparation import Preparation
from .network import freezing
from .network.example import own_example
from .network.frame_options import FRAME, built_options
from .network.layers import Activation
from .network.metaformer import Norm
from .network.sides import check_sides
from .network.stochastic_depth import StochasticDepth
from .optimizers import ADAMW
from .recipe import REFERENCE_BATCH_SIZE, BatchAugmentation
from .run import resumed
from .run.lightning_internals import current_batch_idx, trainer_of
from .run.machine import compute_as_asked
from .run.metrics import log_metrics, metrics_of
from .run.optimizing import optimizer_of
from .run.reproducibility import part_of_step, seed_draws
from .run.schedule import check_end
from .run.teacher import Teacher
from .run.training_curve import TrainingCurve


class ImageClassifier(pl.LightningModule):
    """Trains a backbone by the recipe of the paper.

    Null is the backbone's own for every option from mixer to position_embedding; hparams say what was built.

    Args:
        backbone: A name that 'poolformer models' lists, or timm/<model> for any model of timm.
        num_classes: Classes K; the command line counts those of the data where nobody says how many.
        mixer: Token mixer that 'poolformer mixers' lists: a name, {name: ..., option: value}, or a
            list of four, one for each stage; null for the backbone's own, which is pooling for a PoolFormer.
        norm: Norm of the blocks and the head; group, the paper's modified layer norm, is a PoolFormer's own.
        act: Activation inside the channel MLP; gelu is a PoolFormer's own.
        residual: Whether the blocks have their residual connections.
        channel_mlp: Whether the blocks have their channel MLP.
        layer_scale_init: Start of the layer scales; 0 for none.
        drop_path_rate: Stochastic depth of the last block.
        position_embedding: Stage, 1 to 4, that starts by adding a learned position embedding.
        image_size: Side of the images in pixels, for what depends on the number of tokens; --data.image_size sets it.
        in_chans: Channels of the images; for 1, colour images become grey. Weights to start from are brought to it by
            timm's rule: summed for 1, else repeated and scaled.
        pretrained: Weights to start from: a file (.pth.tar, .pth, .safetensors, .ckpt) of the authors, timm,
            mmpretrain, transformers or a run; or timm/<model>, such as timm/poolformer_s12.sail_in1k, or
            hf-hub:user/repo to download them. Not read with --ckpt_path, which has weights of its own.
        pretrained_skip: Tensors of these weights to leave out, so that the rest fits a network with others: mixers for
            those of all token mixers, or patterns of names, such as stages.3.*; they start fresh.
        fused: Whether blocks run in fused operators, where there is one for what they are made of: equal up to
            rounding, with fewer passes over memory. Less than half is kept for the backward pass, a fifth in bf16 on
            a CPU, where they are in C++, compiled once on a machine in a quarter of a minute. Not timed on a GPU yet.
        recompute: Whether the backward pass computes most blocks again from their inputs: a fifth of the memory, an
            eighth more time in fp32 and a fifth more in bf16 (on a CPU); equal up to rounding. With fused it takes a
            twentieth more in fp32; in bf16 on a CPU fused alone keeps as little.
        compile: Whether the backbone runs through torch.compile: a minute or more at the start, then faster steps.
        cuda_graphs: Whether the backbone is compiled into CUDA graphs, which take one launch for all of its kernels;
            on one GPU. Each number and size of images is captured when it first comes. Not timed yet.
        optimizer: Name of an optimizer: adamw is the paper's, and timm has muon, lamb, sgd and many others; or {name:
            ..., option: value}. It takes lr and weight_decay, whose defaults are meant for AdamW.
        layer_decay: Learning rate of a block as a share of the next one's, for fine-tuning; null for one rate.
        freeze: What is not trained: backbone for all but the layer that makes the logits, or patterns of names, such
            as stages.0.*; statistics of frozen norms stay too.
        lr: Learning rate for lr_batch_size images a step.
        lr_batch_size: Images a step that lr is meant for; the rate grows linearly with the effective
            batch size. null leaves lr as it is.
        weight_decay: Of convolution and linear weights; 1-D parameters do not decay.
        lr_interval: When the rate changes: with each epoch, as in the authors' runs, or with each step.
        warmup_epochs: Epochs in which the rate rises linearly from warmup_lr.
        warmup_lr: Learning rate at the start; of the whole first epoch where it changes with epochs.
        min_lr: Learning rate at the end of the cosine.
        cooldown_epochs: Last epochs of the run, at min_lr.
        mixup: Alpha of mixup; 0 turns it off.
        cutmix: Alpha of CutMix; 0 turns it off.
        label_smoothing: Share of a target that is spread over all classes.
        erase_prob: Probability of random erasing.
        teacher: File of soft labels for the training images of this run, which 'poolformer teach' writes.
        teacher_weight: Share of a target that is the teacher's; the rest is the label's, smoothed.
        mean: Mean of the pixels in [0, 1], one for each channel; their average where there are others than RGB's 3.
        std: Standard deviation of the pixels, likewise.

    Attributes:
        seed: Of what a batch draws; a resumed run keeps the one it started with.
        frame: Options of the frame that the backbone was built with; those it does not have are left out.
        class_names: What the logits mean, not the labels: those of the data that is evaluated may be others.
        loaded: What the checkpoint says that the weights are from.

    Example:
        >>> model = ImageClassifier("poolformer_tiny", num_classes=10, mixer="identity")
        >>> model(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    # What `save_hyperparameters` and `register_buffer` make.
    hparams: AttributeDict
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: str = "poolformer_s12",
        num_classes: int = 1000,
        mixer: str | dict[str, Any] | list[str | dict[str, Any]] | None = None,
        norm: Norm | None = None,
        act: Activation | None = None,
        residual: bool | None = None,
        channel_mlp: bool | None = None,
        layer_scale_init: float | None = None,
        drop_path_rate: float | None = None,
        position_embedding: int | None = None,
        image_size: int = 224,
        in_chans: int = 3,
        pretrained: str | None = None,
        pretrained_skip: str | list[str] | None = None,
        fused: bool = False,
        recompute: bool = False,
        compile: bool = False,
        cuda_graphs: bool = False,
        optimizer: str | dict[str, Any] = ADAMW,
        layer_decay: float | None = None,
        freeze: str | list[str] | None = None,
        lr: float = 1e-3,
        lr_batch_size: int | None = REFERENCE_BATCH_SIZE,
        weight_decay: float = 0.05,
        lr_interval: Literal["epoch", "step"] = "epoch",
        warmup_epochs: int = 5,
        warmup_lr: float = 1e-6,
        min_lr: float = 1e-5,
        cooldown_epochs: int = 10,
        mixup: float = 0.8,
        cutmix: float = 1.0,
        label_smoothing: float = 0.1,
        erase_prob: float = 0.25,
        teacher: str | None = None,
        teacher_weight: float = 1.0,
        mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ):
        super().__init__()
        option_ranges.check("model", locals(), option_ranges.MODEL)
        asked: dict[str, Any] = {name: value for name, value in locals().items() if name in FRAME}
        # A checkpoint has weights of its own and must load where this file is gone.
        self.save_hyperparameters(ignore=["pretrained", "pretrained_skip"])
        self.frame = built_options(backbone, asked)
        mean, std = (of_each_channel(name, each, in_chans) for name, each in (("mean", mean), ("std", std)))
        self.save_hyperparameters(dict.fromkeys(asked) | self.frame | {"mean": mean, "std": std})
        self.backbone = create_backbone(
            backbone,
            num_classes=num_classes,
            **asked,
            image_size=image_size,
            in_chans=in_chans,
            pretrained=pretrained,
            pretrained_skip=pretrained_skip,
        )
        self._frozen = freezing.freeze(self.backbone, freeze)
        # Tokens' channels side by side in memory: the faster layout, on CPUs and GPUs alike.
        self.to(memory_format=torch.channels_last)
        if pretrained is not None:
            rank_zero_info(f"Starts from the weights of '{pretrained}'")
        self.augment = BatchAugmentation(
            num_classes=num_classes, mixup=mixup, cutmix=cutmix, label_smoothing=label_smoothing, erase_prob=erase_prob
        )
        self._teacher = Teacher(teacher, teacher_weight, self.augment)
        self._stochastic_depth = StochasticDepth(self.backbone, in_place=cuda_graphs)
        # Facts of the model, not state: a published state dict has no entries for them.
        self.register_buffer("mean", 255 * torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std)[:, None, None], persistent=False)
        self._preparation = Preparation(num_classes, own_example(self.backbone))
        self.class_names: list[str] | None = getattr(self.backbone, "class_names", None) if pretrained else None
        self._has_published_weights = pretrained is not None
        self.loaded = Saved()
        self._before: dict[str, Any] = {}
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        self._curve = TrainingCurve()
        self.val_metrics = metrics_of(num_classes, prefix="val/")
        self.test_metrics = metrics_of(num_classes, prefix="test/")

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to logits (B, K)."""
        return self.backbone(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = self.on_after_batch_transfer(batch)
        assert targets is not None
        freezing.hold(self._frozen)
        logits = self(images)
        loss = F.cross_entropy(logits, targets)
        unclear = self.augment.mixes or self._teacher  # whose targets are no labels
        self._curve.note_step(trainer_of(self), batch_idx, loss, None if unclear else (logits, targets))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        return self._evaluate(self.val_metrics, batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        return self._evaluate(self.test_metrics, batch, batch_idx)

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the probabilities (B, K)."""
        return self(self.on_after_batch_transfer(batch).images).float().softmax(1)

    def _evaluate(self, metrics: MetricCollection, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        images, labels = self.on_after_batch_transfer(batch)
        assert labels is not None
        counted = self._preparation.counted(images, self(images), labels, batch=batch_idx, trainer=self.trainer)
        log_metrics(self, metrics, counted["logits"], counted["labels"])
        return counted  # for callbacks, which see what the metrics count

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int = 0) -> Batch:
        """Check, and normalise on the device; in training mix, erase, and make the targets soft (B, K).

        Raises:
            DataError: It is not uint8 images (B, 3, H, W) with int64 labels (B,).
        """
        if isinstance(batch, Batch):  # a step asks for the case that the data module has this hook, in place of ours
            return batch
        images, labels = self._preparation(batch, dataloader_idx, trainer=self.trainer, mean=self.mean, std=self.std)
        if labels is None or not self.trainer.training:
            return Batch(images, labels)
        part = part_of_step(self.trainer, len(images), seed=self.seed)
        images, targets = self.augment(images, self._teacher.targets(labels, self.trainer), part)
        self._stochastic_depth.draw(part, images.device)
        # What else draws, as a mixer: on each device differently, and again when it is resumed.
        seed_draws(self.seed, self.trainer.current_epoch, current_batch_idx(self.trainer), self.global_rank)
        return Batch(images, targets)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._stochastic_depth.forget()

    def class_name(self, label: int) -> str:
        """Return the name of a class, its number where the data had no name for it."""
        return self._preparation.name_of(label, self.class_names)

    def configure_callbacks(self) -> list[Callback]:
        """Return what logs the values of the steps."""
        return [] if self._curve in self.trainer.callbacks else [self._curve]

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimiser, without decay on 1-D parameters; warm-up and cosine by epoch or by step."""
        return optimizer_of(self.trainer, self.backbone, self.hparams)

    def setup(self, stage: str) -> None:
        """Compare what the trainer and the data are with what the model was built for.

        Raises:
            ConfigError: The data has classes that the model does not know, its images grow and the
                backbone takes one size only, the cosine has no end, nothing can be compiled here, or no CUDA graphs
                captured.
            DataError: The names of its classes are no list of names, or the teacher's file cannot be read.
            OptionsError: The backbone cannot be recomputed.
        """
        data, options = self.trainer.datamodule, self.hparams
        self._preparation.begin(data)
        if stage == "fit":
            check_end(self.trainer)
            self.augment.check_batch_size(getattr(data, "batch_size", 0))
            self.augment.check_example(self._preparation.example)
            self._teacher.open()
            growth = getattr(data, "hparams", {}).get("growth")
            check_sides(self.backbone, growth, name=options.backbone, image_size=options.image_size)
            known = self.class_names if self._has_published_weights else None
            learned = names_to_learn(self._preparation.classes, known, logits=options.num_classes)
            self.class_names = learned or self.class_names
        elif stage == "predict" and self._has_published_weights:
            self.class_names = self.class_names or imagenet_names([], options.num_classes)
        compute_as_asked(self.backbone, options, self.trainer)

    def on_train_start(self) -> None:
        """Compare the run with its teacher's, and say which options of a resumed one are others than it had before."""
        self._teacher.begin(self.trainer)
        self._has_published_weights = False
        resumed.say_changes(self.trainer, self._before, self.hparams, seed=self.seed)
        self._before = {}

    def on_validation_start(self) -> None:
        check_one_loader(self.trainer, "val", self.trainer.val_dataloaders)
        if self.trainer.state.fn == "validate":
            self._match_labels()

    def on_test_start(self) -> None:
        check_one_loader(self.trainer, "test", self.trainer.test_dataloaders)
        self._match_labels()

    def on_predict_start(self) -> None:
        check_one_loader(self.trainer, "predict", self.trainer.predict_dataloaders)
        check_head(self.backbone, logits=self.hparams.num_classes, has_published_weights=self._has_published_weights)

    def _match_labels(self) -> None:
        data, published = self.trainer.datamodule, self._has_published_weights
        check_head(self.backbone, logits=self.hparams.num_classes, has_published_weights=published)
        self._preparation.match_labels(data, self.class_names, has_published_weights=published, device=self.device)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights.

        Raises:
            MisfitError: They are of another network.
        """
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        except RuntimeError as error:
            raise misfit_of(state_dict, self.state_dict(), self.hparams, error) from error

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what the weights need: backbone, mixers with their packages, class names."""
        options = self.hparams
        checkpoint[RECORD] = record(
            backbone=options.backbone, mixer=options.mixer, class_names=self.class_names, frame=self.frame
        )
        if (trainer := trainer_of(self)) is not None:
            resumed.write(checkpoint, trainer, seed=self.seed)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Warn where the weights were made with something else than what is installed or asked for."""
        for warning in differences(checkpoint, backbone=self.hparams.backbone, mixer=self.hparams.mixer):
            rank_zero_warn(warning)
        self.loaded = saved_in(checkpoint)
        if (trainer := trainer_of(self)) is not None and trainer.state.fn == "fit":
            check_resumed(self.loaded.class_names, self._preparation.classes.names)
            self._before, self.seed = resumed.take(checkpoint, trainer, self.hparams, seed=self.seed)
        elif "averaging_state" in checkpoint:
            rank_zero_info("The checkpoint's weights are averages (EMA) over its steps")
        self.class_names = self.loaded.class_names or (None if self._has_published_weights else self.class_names)
        self._has_published_weights = False
