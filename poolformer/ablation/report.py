"""What `poolformer ablate` leaves of its runs: table.md, table.csv, perhaps table.tex, and the figures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import PoolformerError, one_line
from ..files.atomic_write import atomic_write
from . import figures, notes, tries
from .latex import latex
from .rows import Row
from .runs import Run
from .table import Line, markdown, table, write_csv


@dataclass(frozen=True)
class Report:
    """The rows and runs of an ablation, as far as they are finished whenever it is written.

    Attributes:
        rows: In the order of the table.
        runs: Of them.
        out: Directory of the files.
        settings: Of the base configuration, as ``config.yaml`` holds them.
        command: That trains the rows.
        base: Name of the row that the others' differences are to; the first by default.
        choices: What was chosen for rows among values tried, by their names.
        latex: Whether the table is wanted as LaTeX too.
    """

    rows: Sequence[Row]
    runs: Sequence[Run]
    out: Path
    settings: Mapping[str, Any]
    command: str
    base: str | None = None
    choices: Mapping[str, tries.Choice] = field(default_factory=dict)
    latex: bool = False

    def lines(self) -> list[Line]:
        """Return the lines of the table as they are now."""
        found = [(run.row, run.seed, run.result()) for run in self.runs]
        lines = []
        for row in self.rows:
            done = [(seed, result) for name, seed, result in found if name == row.name and result]
            chosen = self.choices[row.name].point.name if row.name in self.choices else None
            lines.append(Line(row, tuple(result for _, result in done), tuple(seed for seed, _ in done), chosen))
        return lines

    def write(self) -> str:
        """Write the table's files; return what is shown of them."""
        lines = self.lines()
        below = notes.notes(lines, base=self.base, settings=self.settings, command=self.command)
        below += tries.notes(list(self.choices.values()))
        warned = notes.warnings(lines)
        text = "\n".join(
            [
                markdown(lines, base=self.base),
                "",
                *_listed(below),
                *(["", "warned of:", *_listed(warned)] * bool(warned)),
            ]
        )
        self.out.mkdir(parents=True, exist_ok=True)
        self._save("table.md", text)
        write_csv(lines, self.out / "table.csv", base=self.base)
        if not self.latex:
            return text
        text = latex(table(lines, base=self.base), [*below, *(f"warned of, {each}" for each in warned)])
        self._save("table.tex", text)
        return text

    def show(self) -> None:
        """Write all files, and print the table and where they are."""
        print(f"\n{self.write()}")
        written = [str(self.out / name) for name in ("table.md", "table.csv", *["table.tex"] * self.latex)]
        try:
            written += self._draw()
        except PoolformerError as error:  # a table without figures is worth as much
            print(f"\n{one_line(error)}")
        print("\nwritten", *written)

    def title(self, lines: Sequence[Line]) -> str:
        """Return what stands above the figures: the directory, also where that is the current one, and how long."""
        return f"{self.out.resolve().name}: {_trained(lines)}"

    def _draw(self) -> list[str]:
        """Draw what is finished; return the files, those of one figure in one word."""
        lines = self.lines()
        if not any(line.results for line in lines):
            return []
        finished: dict[str, list[Path]] = {}
        for run in self.runs:
            if run.result() is not None:
                finished.setdefault(run.row, []).append(run.directory)
        title = self.title(lines)
        files = figures.draw(lines, self.out, title=title, base=self.base)
        files += figures.draw_learning(lines, finished, self.out, title=title, base=self.base)
        kinds: dict[Path, list[str]] = {}
        for file in files:
            kinds.setdefault(file.with_suffix(""), []).append(file.suffix[1:])
        return [f"{file}.{{{','.join(own)}}}" for file, own in kinds.items()]

    def _save(self, name: str, text: str) -> None:
        with atomic_write(self.out / name, "w", encoding="utf-8") as file:
            file.write(f"{text}\n")


def _listed(lines: Sequence[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _trained(lines: Sequence[Line]) -> str:
    """Return for how long and how often rows were trained: ``80 epochs, 3 seeds``."""
    epochs = sorted({result.epochs for line in lines for result in line.results})
    seeds = len({seed for line in lines for seed in line.seeds})
    spans = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
    return f"{spans} epoch{'s' * (spans != '1')}, {seeds} seed{'s' * (seeds != 1)}"
