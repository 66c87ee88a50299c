"""How fast rows train, measured alone: one after another in turns when nothing else of the page runs any more."""

import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import PoolformerError, describe, is_end
from ..files.atomic_write import atomic_write
from .cells import Cell
from .fits import Fit
from .outcomes import TOP1, of_cell

Speeds = dict[tuple[str, str], float]

ROUNDS = 3
THREADS = 1
_STEPS = 30
_BATCH = 16
_FILE = "speed.json"


def of_cells(cells: Sequence[Cell], folder: Path, *, say: Callable[[str], None]) -> Speeds:
    """Return the images a second of a probe's training, drawing and evaluation left out, for each row and measure.

    A side costs the same in all tasks, so that one of them is measured: short trainings in turns, the median. Where
    that fails, as a short training may where a long one did not, the row has no speed, and it is said.
    """
    from .probe import ProbeSettings, run_cell

    first: dict[tuple[str, int], Cell] = {}
    for cell in cells:
        first.setdefault((cell.row, cell.side), cell)
    key = {"rows": sorted({cell.row for cell in cells}), "asked": [cell.asked for cell in first.values()]}
    if (kept := _kept(folder, key)) is None:
        times: dict[tuple[str, int], list[float]] = {place: [] for place in first}
        with one_thread():
            for _ in range(ROUNDS):
                for place in list(times):
                    cell = first[place]
                    settings = ProbeSettings(**{**cell.settings, "steps": min(_STEPS, cell.settings["steps"])})
                    try:
                        result = run_cell(cell.mixer, cell.task, cell.side, cell.seed, settings)
                    except (Exception, SystemExit) as error:  # its cells are trained, and have their page
                        if is_end(error):
                            raise
                        del times[place]
                        say(f"{cell.row}, {cell.side}x{cell.side} has no speed: {describe(error)}")
                    else:
                        times[place].append(result.images_per_s)
        kept = {f"{row}\n{side}": statistics.median(found) for (row, side), found in times.items()}
        if len(kept) == len(first):
            _keep(folder, key, kept)
    measured = [(cell, f"{cell.row}\n{cell.side}") for cell in cells]
    return {(cell.row, of_cell(cell.task, cell.side)): kept[name] for cell, name in measured if name in kept}


def of_fits(fits: Sequence[Fit], folder: Path, *, say: Callable[[str], None]) -> Speeds:
    """Return the images a second of a forward and a backward pass, for each row: the median of turns.

    A row whose passes fail on noise has no speed, and it is said.
    """
    import torch

    from ..bench import measure

    first: dict[str, Fit] = {}
    for fit in fits:
        first.setdefault(fit.row, fit)
    key = {"rows": {row: list(fit.run.arguments) for row, fit in first.items()}}
    if (kept := _kept(folder, key)) is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        steps = {}
        with one_thread():
            for row, fit in first.items():
                try:
                    step = _step(fit, device)
                    step()
                except (Exception, SystemExit) as error:  # its fits are trained, and have their page
                    if is_end(error):
                        raise
                    say(f"{row} has no speed: {describe(error)}")
                else:
                    steps[row] = step
            times = measure.interleaved(list(steps.values()), rounds=ROUNDS, device=device)
        kept = {row: _BATCH / statistics.median(found) for row, found in zip(steps, times, strict=True)}
        if len(kept) == len(first):
            _keep(folder, key, kept)
    return {(row, TOP1): speed for row, speed in kept.items()}


def check_mixes(fit: Fit) -> None:
    """Run one step of a row's network on noise, so that a first failure is told in seconds.

    Raises:
        PoolformerError: It raises, or its logits or gradients are not finite.
    """
    import torch

    try:
        network = _step(fit, torch.device("cpu"), batch=2)()
    except PoolformerError:
        raise
    except (Exception, SystemExit) as error:  # likewise
        if is_end(error):
            raise
        raise PoolformerError(f"{fit.row} fails in its first step: {describe(error)}") from error
    for name, parameter in network.named_parameters():
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            raise PoolformerError(f"{fit.row}: the gradient of {name} is not finite in the first step")


def _step(fit: Fit, device: Any, *, batch: int = _BATCH) -> Any:
    import torch

    from ..classifier import ImageClassifier
    from ..cli.data_section import image_size_of
    from ..cli.training import settings

    now = settings("fit", list(fit.run.arguments))
    size = image_size_of(now["data"])
    options = {"image_size": size, **now["model"], "pretrained": None}
    network = ImageClassifier(**options).backbone.to(device).train()
    images = torch.randn(batch, 3, size, size, device=device)
    labels = torch.zeros(batch, dtype=torch.int64, device=device)

    def step() -> torch.nn.Module:
        network.zero_grad()
        logits = network(images)
        if not logits.isfinite().all():
            raise PoolformerError(f"{fit.row}: the network's logits are not finite in the first step")
        torch.nn.functional.cross_entropy(logits, labels).backward()
        return network

    return step


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute with one thread in here, as the jobs do."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _kept(folder: Path, key: Mapping[str, Any]) -> dict[str, float] | None:
    """Return what was measured before of the same rows, all of them side by side; None otherwise."""
    try:
        saved = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return dict(saved["images_per_s"]) if saved["of"] == key else None
    except (OSError, ValueError, KeyError, TypeError):  # it is measured again in less than a minute
        return None


def _keep(folder: Path, key: Mapping[str, Any], speeds: Mapping[str, float]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / _FILE, "w", encoding="utf-8") as file:
        file.write(json.dumps({"of": key, "images_per_s": dict(speeds)}, indent=1) + "\n")
