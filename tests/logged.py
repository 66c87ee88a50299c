"""Runs as they are left on the disk: TensorBoard's file of events, and the configuration beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

STEPS = 10  # an epoch


def write_events(file: Path, tags: Mapping[str, Mapping[int, float]]) -> Path:
    """Write numbers by tag and step, as SummaryWriter does, which takes a thread and half a second for it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("wb") as opened:
        records = RecordWriter(opened)
        records.write(Event(file_version="brain.Event:2").SerializeToString())
        for tag, values in tags.items():
            for step, value in values.items():
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
                records.write(Event(step=step, summary=summary).SerializeToString())
    return file


def write_run(
    directory: Path, top1: list[float], *, seed: int = 0, model: Mapping[str, Any] | None = None, **tags: float
) -> Path:
    """Write a run that was evaluated after each epoch; ``tags`` are logged once, at the end."""
    steps = [STEPS * (epoch + 1) - 1 for epoch in range(len(top1))]
    logged: dict[str, Mapping[int, float]] = {tag: {steps[-1]: value} for tag, value in tags.items()}
    logged["val/top1"] = dict(zip(steps, top1, strict=True))
    logged["epoch"] = {step: epoch for epoch, step in enumerate(steps)}
    write_events(directory / "events.out.tfevents.1.host.1.0.poolformer", logged)
    trainer = {
        "max_epochs": len(top1),
        "default_root_dir": str(directory),
        "callbacks": [{"dirpath": f"{directory}/x"}],
    }
    config = {"seed_everything": seed, "model": dict(model or {"mixer": "pooling"}), "data": {}, "trainer": trainer}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    return directory
