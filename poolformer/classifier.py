"""The LightningModule that trains and evaluates any backbone on image classification.

Shapes: B batch, H and W pixels, K classes. Batches come from a data module as uint8 images
(B, 3, H, W) and int64 labels (B,); normalisation and mixing happen here, on the device.
"""

import inspect
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.fabric.utilities.data import AttributeDict
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torchmetrics import MeanMetric, Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from . import option_ranges
from .backbones import create_backbone, recompute
from .checkpoint.pretrained import compare
from .checkpoint.reading import read_run
from .checkpoint.record import RECORD, check_imports, differences, hyper_parameters, record
from .claims import Outline, check_claims, misfit
from .data.batches import NORMALISED, Batch, BatchCheck, check_one_loader, source_name
from .data.class_names import check_resumed
from .data.labels import Classes, classes_of, logits_of_labels, names_to_learn
from .errors import CheckpointError, ConfigError, MisfitError, PoolformerError, describe
from .files.shell import quoted
from .network.frame_options import built_options
from .network.metaformer import Activation, Norm
from .recipe import REFERENCE_BATCH_SIZE, BatchAugmentation, EpochScheduler, Schedule, parameter_groups, scaled_lr
from .run import provenance
from .run.execution import check_growth, compile_in_place, fuse_blocks
from .run.facts import RUN, run_facts, use_new_options
from .run.lightning_internals import trainer_of
from .run.reproducibility import changes, seed_draws

METRICS = "poolformer_metrics"
"""Where a checkpoint keeps what was logged last."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageClassifier(pl.LightningModule):
    """Trains a backbone by the recipe of the paper.

    Null is the backbone's own for every option from mixer to position_embedding; hparams say what was built.

    Args:
        backbone: A name that 'poolformer models' lists, or timm/<model> for any model of timm.
        num_classes: Classes K.
        mixer: Token mixer that 'poolformer mixers' lists: a name, {name: ..., option: value}, or a
            list of four, one for each stage; null for the backbone's own, which is pooling for a PoolFormer.
        norm: Norm of the blocks and the head; group, the paper's modified layer norm, is a PoolFormer's own.
        act: Activation inside the channel MLP; gelu is a PoolFormer's own.
        residual: Whether the blocks have their residual connections.
        channel_mlp: Whether the blocks have their channel MLP.
        layer_scale_init: Start of the layer scales; 0 for none.
        drop_path_rate: Stochastic depth of the last block.
        position_embedding: Stage, 1 to 4, that starts by adding a learned position embedding.
        image_size: Side of the images in pixels, for what depends on the number of tokens. The command
            line sets it from --data.image_size.
        pretrained: Weights to start from: a file (.pth.tar, .pth, .safetensors, .ckpt) of the authors, timm,
            mmpretrain, transformers or a run; or timm/<model>, such as timm/poolformer_s12.sail_in1k, to
            download them. Not read with --ckpt_path, which has weights of its own.
        fused: Whether blocks run in fused operators, where there is one for what they are made of: equal up to
            rounding, with fewer passes over memory. Less than half is kept for the backward pass, a fifth in bf16 on
            a CPU, where they are in C++, compiled once on a machine in a quarter of a minute. Not timed on a GPU yet.
        recompute: Whether the backward pass computes most blocks again from their inputs: a fifth of the memory, an
            eighth more time in fp32 and a fifth more in bf16 (on a CPU); equal up to rounding. With fused it takes a
            twentieth more in fp32; in bf16 on a CPU fused alone keeps as little.
        compile: Whether the backbone runs through torch.compile: a minute or more at the start, then faster steps.
        lr: Learning rate for lr_batch_size images a step.
        lr_batch_size: Images a step that lr is meant for; the rate grows linearly with the effective
            batch size. null leaves lr as it is.
        weight_decay: Of convolution and linear weights; 1-D parameters do not decay.
        warmup_epochs: Epochs in which the rate rises linearly from warmup_lr.
        warmup_lr: Learning rate of the first epoch.
        min_lr: Learning rate at the end of the cosine.
        cooldown_epochs: Last epochs of the run, at min_lr.
        mixup: Alpha of mixup; 0 turns it off.
        cutmix: Alpha of CutMix; 0 turns it off.
        label_smoothing: Share of a target that is spread over all classes.
        erase_prob: Probability of random erasing.
        mean: Mean of the pixels in [0, 1], one for each channel.
        std: Standard deviation of the pixels, one for each channel.

    Attributes:
        seed: Of what a batch draws; a resumed run keeps the one it started with.
        frame: Options of the frame that the backbone was built with; those it does not have are left out.
        trained_as: Record of the checkpoint that the weights are from.
        saved_metrics: What had been logged last when that checkpoint was saved.
        saved_crop_pct: Share of the resized image that its run evaluated; None where its data has no such option.

    Example:
        >>> model = ImageClassifier("poolformer_tiny", num_classes=10, mixer="identity")
        >>> model(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    # What `save_hyperparameters` and `register_buffer` make.
    hparams: AttributeDict
    mean: Tensor
    std: Tensor
    _logit_of_label: Tensor | None

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
        pretrained: str | None = None,
        fused: bool = False,
        recompute: bool = False,
        compile: bool = False,
        lr: float = 1e-3,
        lr_batch_size: int | None = REFERENCE_BATCH_SIZE,
        weight_decay: float = 0.05,
        warmup_epochs: int = 5,
        warmup_lr: float = 1e-6,
        min_lr: float = 1e-5,
        cooldown_epochs: int = 10,
        mixup: float = 0.8,
        cutmix: float = 1.0,
        label_smoothing: float = 0.1,
        erase_prob: float = 0.25,
        mean: tuple[float, float, float] = IMAGENET_MEAN,
        std: tuple[float, float, float] = IMAGENET_STD,
    ):
        super().__init__()
        option_ranges.check("model", locals(), option_ranges.MODEL)
        asked: dict[str, Any] = {
            "mixer": mixer,
            "norm": norm,
            "act": act,
            "residual": residual,
            "channel_mlp": channel_mlp,
            "layer_scale_init": layer_scale_init,
            "drop_path_rate": drop_path_rate,
            "position_embedding": position_embedding,
        }
        # A checkpoint has weights of its own and must load where this file is gone.
        self.save_hyperparameters(ignore="pretrained")
        self.frame = built_options(backbone, asked)
        self.save_hyperparameters(dict.fromkeys(asked) | self.frame)
        self.backbone = create_backbone(
            backbone, num_classes=num_classes, **asked, image_size=image_size, pretrained=pretrained
        )
        # Tokens' channels side by side in memory: the faster layout, on CPUs and GPUs alike.
        self.to(memory_format=torch.channels_last)
        if pretrained is not None:
            rank_zero_info(f"Starts from the weights of '{pretrained}'")
        self.augment = BatchAugmentation(
            num_classes=num_classes,
            mixup=mixup,
            cutmix=cutmix,
            label_smoothing=label_smoothing,
            erase_prob=erase_prob,
        )
        # Facts of the model, not state: a published state dict has no entries for them.
        self.register_buffer("mean", 255 * torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", 255 * torch.tensor(std)[:, None, None], persistent=False)
        self.register_buffer("_logit_of_label", None, persistent=False)
        # What the logits mean, not the labels: those of the data that is evaluated may be others.
        self.class_names: list[str] | None = getattr(self.backbone, "class_names", None) if pretrained else None
        self._classes = Classes(None, None)
        self._has_published_weights = pretrained is not None
        self.trained_as: dict[str, Any] | None = None
        self.saved_metrics: dict[str, float] = {}
        self.saved_crop_pct: float | None = None
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        self._before: dict[str, Any] = {}
        self._checks: dict[Any, BatchCheck] = {}
        self.val_metrics = _metrics(num_classes, prefix="val/")
        self.test_metrics = _metrics(num_classes, prefix="test/")

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W) to logits (B, K)."""
        return self.backbone(images)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, targets = self._prepared(batch)
        assert targets is not None
        logits = self(images)
        loss = F.cross_entropy(logits, targets)
        self.log("train/loss", loss, prog_bar=True)
        if not self.augment.mixes:
            self.log("train/top1", (logits.argmax(1) == targets.argmax(1)).float().mean())
        return loss

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(self.val_metrics, batch)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._evaluate(self.test_metrics, batch)

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """Return the probabilities (B, K)."""
        return self(self._prepared(batch).images).float().softmax(1)

    def _evaluate(self, metrics: MetricCollection, batch: Batch) -> None:
        images, labels = self._prepared(batch)
        assert labels is not None
        logits = self(images)
        metrics.update(preds=logits, target=labels, value=F.cross_entropy(logits, labels, reduction="none"))
        for name, metric in metrics.items():
            in_bar = name.endswith(("loss", "top1"))
            self.log(name, metric, prog_bar=in_bar, on_step=False, on_epoch=True)

    def class_name(self, label: int) -> str:
        """Return the name of a class, its number where the data had no name for it."""
        names = self.class_names or self._classes.names or []
        if self.class_names is None and len(names) != self.hparams.num_classes:
            names = []
        return names[label] if label < len(names) else str(label)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW without decay on 1-D parameters; warm-up and cosine by epoch."""
        peak_lr = self._peak_lr()
        optimizer = torch.optim.AdamW(parameter_groups(self.backbone, self.hparams.weight_decay), lr=peak_lr)
        schedule = Schedule(
            peak_lr=peak_lr,
            epochs=self._schedule_epochs(),
            warmup_epochs=self.hparams.warmup_epochs,
            warmup_lr=self.hparams.warmup_lr,
            min_lr=self.hparams.min_lr,
        )
        # LearningRateMonitor builds its tags of these names: lr/decay, lr/no_decay.
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": EpochScheduler(optimizer, schedule), "name": "lr"},
        }

    def _peak_lr(self) -> float:
        per_device = getattr(self.trainer.datamodule, "batch_size", None)
        if per_device is None:
            rank_zero_warn(f"the data module has no batch_size, so lr={self.hparams.lr:g} is used as it is")
            return self.hparams.lr
        effective = per_device * self.trainer.world_size * self.trainer.accumulate_grad_batches
        peak_lr = scaled_lr(
            self.hparams.lr,
            effective_batch_size=effective,
            reference_batch_size=self.hparams.lr_batch_size,
        )
        rank_zero_info(
            f"Learning rate {peak_lr:.4g}: {self.hparams.lr:g} for {self.hparams.lr_batch_size or 'any number of'} "
            f"images a step, and a step has {effective} ({per_device} a device x {self.trainer.world_size} "
            f"devices x {self.trainer.accumulate_grad_batches} accumulated)"
        )
        return peak_lr

    def _schedule_epochs(self) -> int:
        run = self.trainer.max_epochs
        epochs = run - self.hparams.cooldown_epochs
        if epochs <= self.hparams.warmup_epochs:
            rank_zero_warn(
                f"of {run} epochs, {self.hparams.warmup_epochs} are warm-up and {self.hparams.cooldown_epochs} "
                "cool-down, so none is left for the cosine; see --model.warmup_epochs and --model.cooldown_epochs"
            )
        return max(epochs, 1)

    def setup(self, stage: str) -> None:
        """Compare what the trainer and the data are with what the model was built for.

        Raises:
            ConfigError: The data has classes that the model does not know, its images grow and the
                backbone takes one size only, the cosine has no end, or nothing can be compiled here.
            DataError: The names of its classes are no list of names.
            OptionsError: The backbone cannot be recomputed.
        """
        self._checks, self._logit_of_label = {}, None
        if stage == "fit":
            self._check_before_training()
        self._classes = classes_of(self.trainer.datamodule, logits=self.hparams.num_classes)
        if stage == "fit":
            known = self.class_names if self._has_published_weights else None
            self.class_names = names_to_learn(self._classes, known, logits=self.hparams.num_classes) or self.class_names
        device = self.trainer.strategy.root_device
        if self.hparams.fused:
            fuse_blocks(self.backbone, device=device, precision=self.trainer.precision)
        if self.hparams.recompute and stage == "fit":
            recompute(self.backbone)
        if self.hparams.compile:
            compile_in_place(self.backbone, device=device)

    def _check_before_training(self) -> None:
        if (self.trainer.max_epochs or -1) < 0:
            raise ConfigError("the cosine needs an end: set --trainer.max_epochs, beside max_steps too")
        self.augment.check_batch_size(getattr(self.trainer.datamodule, "batch_size", 0))
        self.check_growth(getattr(self.trainer.datamodule, "hparams", {}).get("growth"))

    def check_growth(self, growth: dict[str, int] | None) -> None:
        """Try the sizes of progressive resizing on shapes alone.

        Raises:
            ConfigError: The backbone takes one size only.
        """
        check_growth(self.backbone, growth, name=self.hparams.backbone, image_size=self.hparams.image_size)

    def on_train_start(self) -> None:
        """Say which options of a resumed run are others than it had before."""
        before, self._before = self._before, {}
        use_new_options(self.trainer, before)
        now = {**self._facts(), **self.hparams, **getattr(self.trainer.datamodule, "hparams", {})}
        if before.get("max_epochs", now["max_epochs"]) != now["max_epochs"]:
            rank_zero_info(f"The schedule is now one of {now['max_epochs']} epochs, not of {before['max_epochs']}")
        changed = changes(
            before, {name: value for name, value in now.items() if name not in ("seed_everything", "max_epochs")}
        )
        if changed:
            rank_zero_warn(f"the run is resumed with other options: {', '.join(changed)}")

    def _facts(self) -> dict[str, Any]:
        """What a run is made of beside the options of model and data; checkpoints keep it."""
        data_module = {provenance.FACT: provenance.class_path_of(self.trainer.datamodule)}
        return {"seed_everything": self.seed, **data_module, **run_facts(self.trainer)}

    def on_validation_start(self) -> None:
        check_one_loader(self.trainer, "val", self.trainer.val_dataloaders)
        if self.trainer.state.fn == "validate":
            self._match_labels()

    def on_test_start(self) -> None:
        check_one_loader(self.trainer, "test", self.trainer.test_dataloaders)
        self._match_labels()

    def on_predict_start(self) -> None:
        check_one_loader(self.trainer, "predict", self.trainer.predict_dataloaders)

    def _match_labels(self) -> None:
        """Bring the labels of data that is evaluated to the logits of the same names."""
        # Again: some modules know their classes when their loaders are made.
        self._classes = classes_of(self.trainer.datamodule, logits=self.hparams.num_classes)
        logits = logits_of_labels(
            self._classes,
            self.class_names,
            logits=self.hparams.num_classes,
            has_published_weights=self._has_published_weights,
        )
        self._logit_of_label = None if logits is None else torch.tensor(logits, device=self.device)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Batch:
        """Check, and normalise on the device; in training mix, erase, and make the targets soft (B, K).

        Raises:
            DataError: It is not uint8 images (B, 3, H, W) with int64 labels (B,).
        """
        return self._prepared(batch, dataloader_idx)

    def _prepared(self, batch: Any, dataloader_idx: int = 0) -> Batch:
        if isinstance(batch, Batch):  # otherwise the data module has an on_after_batch_transfer, and ours was not asked
            return batch
        images, labels = self._check_of_stage()(batch, dataloader_idx)
        if images.dtype == torch.uint8:
            images = (images.contiguous(memory_format=torch.channels_last) - self.mean) / self.std
        else:  # as a copy: mixing and erasing happen in place
            images = images.to(self.mean.dtype, copy=True, memory_format=torch.channels_last)
        if labels is not None and self._logit_of_label is not None:
            labels = self._logit_of_label[labels]
        if labels is None or not self.trainer.training:
            return Batch(images, labels)
        # All that the batch draws, from here to its step: on each device differently, and again when it is resumed.
        seed_draws(self.seed, self.trainer.current_epoch, self.trainer.fit_loop.batch_idx, self.global_rank)
        return Batch(*self.augment(images, labels))

    def _check_of_stage(self) -> BatchCheck:
        stage = self.trainer.state.stage
        assert stage is not None
        if stage not in self._checks:
            module = getattr(self.trainer, "datamodule", None)
            self._checks[stage] = BatchCheck(
                source_name(self.trainer, stage.dataloader_prefix or stage.value),
                channels=len(self.mean),
                classes=self._classes.count or self.hparams.num_classes,
                normalised=getattr(module, NORMALISED, False) is True,
                labelled=not self.trainer.predicting,
            )
        return self._checks[stage]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights.

        Raises:
            MisfitError: They are of another network.
        """
        try:
            return super().load_state_dict(state_dict, strict=strict, assign=assign)
        except RuntimeError as error:
            theirs, ours = (
                {name.removeprefix("backbone."): value for name, value in weights.items()}
                for weights in (state_dict, self.state_dict())
            )
            if sum(map(len, compare(theirs, ours).values())) == 0:  # such as tensors without values
                raise MisfitError(f"the weights cannot be copied: {describe(error)[:300]}") from error
            raise misfit(theirs, ours, self.hparams) from error

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Record what the weights need: backbone, mixers with their packages, class names."""
        checkpoint[RECORD] = record(
            backbone=self.hparams.backbone,
            mixer=self.hparams.mixer,
            class_names=self.class_names,
            frame=self.frame,
        )
        if (trainer := trainer_of(self)) is not None:
            checkpoint[RUN] = self._facts()
            checkpoint[METRICS] = {name: value.item() for name, value in trainer.callback_metrics.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Warn where the weights were made with something else than what is installed or asked for."""
        for warning in differences(checkpoint, backbone=self.hparams.backbone, mixer=self.hparams.mixer):
            rank_zero_warn(warning)
        self.trained_as = checkpoint.get(RECORD)
        self.saved_metrics = checkpoint.get(METRICS, {})
        crop_pct = (checkpoint.get("datamodule_hyper_parameters") or {}).get("crop_pct")
        self.saved_crop_pct = crop_pct if isinstance(crop_pct, float) and 0 < crop_pct <= 1 else None
        trained_on = (self.trained_as or {}).get("class_names")
        if (trainer := trainer_of(self)) is not None and trainer.state.fn == "fit":
            check_resumed(trained_on, self._classes.names)
            self._resume_from(checkpoint)
        self.class_names = trained_on or self.class_names

    def _resume_from(self, checkpoint: dict[str, Any]) -> None:
        run = checkpoint.get(RUN, {})
        data = checkpoint.get("datamodule_hyper_parameters", {})
        self._before = {**run, **checkpoint["hyper_parameters"], **data}
        seed = run.get("seed_everything", self.seed)
        if seed != self.seed:
            rank_zero_warn(f"the run keeps its seed, {seed}; --seed_everything {self.seed} is for new runs")
            self.seed = seed
        for group in (group for state in checkpoint["optimizer_states"] for group in state["param_groups"]):
            # The optimiser's state would bring back the decay of before; the rate is the schedule's.
            if group["weight_decay"]:
                group["weight_decay"] = self.hparams.weight_decay


def load_classifier(path: str | Path, *, trusted: Collection[str] = ()) -> ImageClassifier:
    """Rebuild the classifier of a run from its checkpoint, on the CPU and in evaluation mode.

    Args:
        path: A checkpoint that a run wrote.
        trusted: Mixers or backbones outside the registry, ``module:name``, that the checkpoint may have
            imported; it is data and cannot choose that itself.

    Raises:
        CheckpointError: It cannot be read, or its weights do not fit what is installed here.
        RegistryError: Its backbone or mixer is not available.
    """
    saved = read_run(path)
    options = hyper_parameters(saved)
    check_imports(
        options,
        path=path,
        vouched=trusted,
        remedy=lambda foreign: " ".join(f"--trust {quoted(name)}" for name in foreign),
    )
    known = inspect.signature(ImageClassifier).parameters
    try:
        check_claims(Outline(saved["state_dict"]), options)
        classifier = ImageClassifier(**{name: value for name, value in options.items() if name in known})
    except PoolformerError:
        raise
    except Exception as error:  # a checkpoint is data from anywhere
        raise CheckpointError(f"'{path}': its hyper-parameters do not make a model: {describe(error)[:200]}") from error
    classifier.load_state_dict(saved["state_dict"])
    classifier.on_load_checkpoint(saved)
    return classifier.eval()


class Count(Metric):
    """Images that were evaluated.

    Not a sum of values: the metrics are updated together, and each takes the arguments that its `update` names.
    """

    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("count", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, target: Tensor) -> None:
        """Count the images of a batch by their labels (B,)."""
        self.count += len(target)

    def compute(self) -> Tensor:
        """Return the number so far."""
        return self.count


def _metrics(num_classes: int, *, prefix: str) -> MetricCollection:
    def accuracy(top_k: int) -> MulticlassAccuracy:
        top_k = min(top_k, num_classes)
        return MulticlassAccuracy(num_classes, top_k=top_k, average="micro", validate_args=False)

    # Each by itself: Lightning logs, sums over processes and resets them one by one.
    metrics: dict[str, Metric | MetricCollection] = {
        "images": Count(),
        "loss": MeanMetric(),
        "top1": accuracy(1),
        "top5": accuracy(5),
    }
    return MetricCollection(metrics, prefix=prefix, compute_groups=False)
