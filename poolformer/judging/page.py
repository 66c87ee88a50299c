"""The page of a mixer, written three times: judge.md, judge.html, judge.json."""

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..ablation import tries
from ..ablation.tries import Choice
from ..counts import counted
from ..files.atomic_write import atomic_write
from . import blocks, svg
from .cells import all_tasks, settings_of
from .comparison import BASES, Comparison, compare
from .outcomes import Outcome, by_seed
from .protocols import NO_RECORD, Protocol
from .rows import Judged
from .speed import ROUNDS, THREADS, Speeds
from .verdict import RULE, Cell, difference, further_seeds, profile, verdict

SCHEMA = 1
FILES = ("judge.md", "judge.html", "judge.json")


@dataclass(frozen=True)
class Page:
    """All that a page says.

    Attributes:
        protocol: By which the mixer was judged.
        rows: The judged row, then the reference rows.
        seeds: That were asked for.
        outcomes: Of what is finished.
        speeds: Images a second by row and measure, measured alone.
        failures: Why trainings failed, by their titles.
        around: What it was made by and on, by names.
        choices: What was chosen for rows of fits among the values tried.
    """

    protocol: Protocol
    rows: Sequence[Judged]
    seeds: Sequence[int]
    outcomes: Sequence[Outcome]
    speeds: Speeds
    failures: Mapping[str, str] = field(default_factory=dict)
    around: Mapping[str, str] = field(default_factory=dict)
    choices: Sequence[Choice] = ()

    @property
    def judged(self) -> str:
        return self.rows[0].name

    @property
    def measured(self) -> str:
        """What the verdict is about."""
        if self.protocol.kind == "fits":
            return "val/top1"
        own = {one.measure for one in self.outcomes if one.row == self.judged}
        return f"the mean score of {counted(len(own), 'probe')}"

    @property
    def measures(self) -> list[str]:
        return list(dict.fromkeys(outcome.measure for outcome in self.outcomes))

    def scores(self, row: str, measure: str) -> tuple[float, ...]:
        """Return the scores of a row in a measure, one a seed."""
        return tuple(one.score for one in self.outcomes if (one.row, one.measure) == (row, measure))

    @property
    def bases(self) -> list[str]:
        """Rows that the verdict is about: of a protocol that has neither pooling nor identity beside it, the first."""
        others = [row.name for row in self.rows[1:]]
        return [base for base in BASES if base in others] or others[:1]

    def comparisons(self) -> list[Comparison]:
        """Return the judged row beside the bases of the verdict first, then beside the other reference rows."""
        order = dict.fromkeys([*self.bases, *(row.name for row in self.rows[1:])])
        found = (compare(self.outcomes, self.judged, base, self.speeds) for base in order)
        return [one for one in found if one]

    def cells(self, row: str) -> list[Cell]:
        """Return the cells of a row in the probes."""
        found, maps = [], settings_of(self.protocol).test_maps
        for measure in self.measures:
            task, _, side = measure.rpartition(" ")
            if scores := self.scores(row, measure):
                own = all_tasks()[task]
                found.append(Cell(task, int(side.partition("x")[0]), scores, own.chance, own.solved, maps))
        return found

    def sentence(self) -> str:
        """Return the verdict."""
        if not self.bases:
            return f"Nothing can be said of {self.judged}: the protocol has no other row."
        return verdict(self.judged, [one for one in self.comparisons() if one.base in self.bases], of=self.measured)


def write(page: Page, folder: Path) -> list[Path]:
    """Write the page's three files, and beside the Markdown its figures; return their paths."""
    title = f"{page.judged}: judged by the protocol {page.protocol.name}"
    content = page_blocks(page)
    texts = {
        "judge.md": blocks.markdown(title, content),
        "judge.html": blocks.html(title, content),
        "judge.json": json.dumps(as_numbers(page), indent=1, default=str) + "\n",
    }
    for block in content:
        if isinstance(block, blocks.Figures):
            texts[block.file] = svg.sheet(block.panels, block.names)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        with atomic_write(folder / name, "w", encoding="utf-8") as file:
            file.write(text)
    return [folder / name for name in texts]


def page_blocks(page: Page) -> list[blocks.Block]:
    """Return what the page shows, from top to bottom."""
    compared = page.comparisons()
    shown: list[blocks.Block] = [blocks.Text(page.sentence(), lead=True)]
    if page.rows[0].others and page.protocol.kind == "probes":
        changes = ", ".join(page.rows[0].others)
        shown.append(blocks.Text(f"The overlay also changes {changes}; probes look at its mixer alone."))
    if page.failures:
        shown += [blocks.Heading("Failed"), blocks.Points([f"{title}: {why}" for title, why in page.failures.items()])]
    shown += [blocks.Heading("Differences, paired by seed"), *_differences(page, compared)]
    if page.protocol.kind == "probes":
        shown += [blocks.Heading("What it can mix"), *_profile(page)]
    shown += [blocks.Heading("Score and cost"), *_costs(page)]
    shown += [blocks.Heading("Learning curves"), _curves(page)]
    if page.choices:
        shown += [blocks.Heading("What was chosen for each row"), blocks.Points(tries.notes(page.choices))]
    record = page.protocol.record or (f"{NO_RECORD}: how well this protocol orders published rows is not known.",)
    shown += [blocks.Heading("What this protocol can tell"), blocks.Points(record)]
    around = {"protocol": f"{page.protocol.name}. {page.protocol.title}", **page.around}
    around["seeds"] = ", ".join(map(str, page.seeds))
    shown += [blocks.Heading("How this was made"), blocks.Table(("", ""), list(around.items()), words=True)]
    return shown


def _differences(page: Page, compared: Sequence[Comparison]) -> list[blocks.Block]:
    if not compared:
        return [blocks.Text("There is no seed with which the mixer and a reference row are both finished.")]
    header = ("minus", "points after equal epochs (95 %)", "points after equal time (95 %)", "seeds", "standard error")
    rows = [
        (
            one.base,
            difference(one.at_end),
            difference(one.at_time),
            str(one.at_end.n),
            "-" if one.at_end.n < 2 else f"{one.at_end.error:.2f} ({one.at_end.unpaired_error:.2f} unpaired)",
        )
        for one in compared
    ]
    said = [
        "Both rows of a pair have the same draws of a seed, so that differences are of pairs. The intervals are "
        "Student's t, and speak of seeds alone.",
        *_equal_time([one for one in compared if one.base in page.bases]),
        *(further_seeds(one) for one in compared if one.base in page.bases),
    ]
    return [blocks.Table(header, rows), blocks.Points(said)]


def _equal_time(compared: Sequence[Comparison]) -> list[str]:
    said = [
        f"{one.slower} is the slower one beside {one.base if one.slower == one.row else one.row}, and through "
        f"{100 * one.share:.0f} % of its training when that is done."
        for one in compared
        if one.share is not None and one.share < 0.995
    ]
    rule = (
        "Equal time: the slower row's score at the moment at which the faster one is done, by the images/s measured "
        "alone, on the line between two evaluations. Its learning rate has not come down by then: with a schedule of "
        "that length it would do better."
    )
    return [*said, rule]


def _profile(page: Page) -> list[blocks.Block]:
    names = [row.name for row in page.rows]
    by_task: dict[str, list[str]] = {}
    for measure in page.measures:
        by_task.setdefault(measure.rpartition(" ")[0], []).append(measure)
    panels = []
    for task, measures in by_task.items():
        groups = {one.rpartition(" ")[2]: [page.scores(name, one) for name in names] for one in measures}
        panels.append(svg.bars(task, groups, chance=all_tasks()[task].chance, solved=all_tasks()[task].solved))
    words = "Score in % by task and side; dashed: chance, line: solved from there on, whiskers: seeds."
    levels = {name: {(cell.task, cell.side): cell for cell in page.cells(name)} for name in names}
    rows = []
    for measure in page.measures:
        task, _, side = measure.rpartition(" ")
        own = [levels[name].get((task, int(side.partition("x")[0]))) for name in names]
        chance, solved = all_tasks()[task].chance, all_tasks()[task].solved
        rows.append((measure, f"{100 * chance:.0f}", f"{100 * solved:.0f}", *map(_cell, own)))
    questions = [f"{task}: {all_tasks()[task].question}" for task in by_task]
    return [
        blocks.Points(profile(page.judged, page.cells(page.judged))),
        blocks.Text(f"{RULE} In the table ✓ is solved, ~ in part, and · not told from chance."),
        blocks.Figures("profile.svg", words, names, panels),
        blocks.Table(("probe, %", "chance", "solved from", *names), rows),
        blocks.Points(questions),
    ]


def _cell(cell: Cell | None) -> str:
    if cell is None:
        return "-"
    marks = {"solved": " ✓", "in part": " ~", "chance": " ·"}
    return f"{100 * statistics.fmean(cell.scores):.1f}{marks[cell.level]}"


def _costs(page: Page) -> list[blocks.Block]:
    header = ("row", "score, %", "seeds", "parameters", "MACs of an image", "images/s, alone", "speed ratio")
    own_speed = _speed(page, page.judged)
    rows = []
    for row in page.rows:
        scores = by_seed(page.outcomes, row.name)
        found = [one for one in page.outcomes if one.row == row.name]
        if not scores or not found:
            rows.append((row.name, *["-"] * (len(header) - 1)))
            continue
        spread = f" ± {100 * statistics.stdev(scores.values()):.2f}" if len(scores) > 1 else ""
        speed = _speed(page, row.name)
        ratio = f"{speed / own_speed:.2f}" if speed and own_speed else "-"
        rows.append(
            (
                row.name,
                f"{100 * statistics.fmean(scores.values()):.2f}{spread}",
                str(len(scores)),
                _range([one.parameters for one in found]),
                _range([one.macs for one in found]),
                f"{speed:,.0f}" if speed else "-",
                ratio,
            )
        )
    over = ", then the geometric mean over the sides" if page.protocol.kind == "probes" else ""
    said = (
        f"Images/s: training steps, forward and backward, {THREADS} thread, nothing else of the page at work; the "
        f"median of {ROUNDS} turns{over}."
    )
    return [
        blocks.Table(header, rows),
        blocks.Text(f"Score: {page.measured}; ± is the standard deviation over seeds. {said}"),
    ]


def _speed(page: Page, row: str) -> float | None:
    found = [speed for (name, _), speed in page.speeds.items() if name == row and speed > 0]
    return statistics.geometric_mean(found) if found else None


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _curves(page: Page) -> blocks.Figures:
    names = [row.name for row in page.rows]
    panels = [
        svg.curves(
            measure,
            [[one.curve for one in page.outcomes if (one.row, one.measure) == (name, measure)] for name in names],
        )
        for measure in page.measures
    ]
    words = (
        "Score in % by the share of the training that is over; lines: means over the seeds, bands: from the lowest "
        "to the highest seed."
    )
    return blocks.Figures("curves.svg", words, names, panels)


def as_numbers(page: Page) -> dict[str, Any]:
    """Return all numbers of the page, in plain values."""
    compared = [
        {
            **asdict(one),
            "at_end": one.at_end._asdict(),
            "at_time": one.at_time._asdict() if one.at_time else None,
            "further_seeds": one.further_seeds,
        }
        for one in page.comparisons()
    ]
    return {
        "schema": SCHEMA,
        "judged": page.judged,
        "verdict": page.sentence(),
        "protocol": {"name": page.protocol.name, "kind": page.protocol.kind, "record": list(page.protocol.record)},
        "rows": [{"name": row.name, "mixer": row.mixer, "overlay": row.overlay} for row in page.rows],
        "seeds": list(page.seeds),
        "comparisons": compared,
        "profile": [
            {"row": row.name, **cell._asdict(), "level": cell.level}
            for row in page.rows
            for cell in (page.cells(row.name) if page.protocol.kind == "probes" else [])
        ],
        "images_per_s_alone": [
            {"row": row, "measure": measure, "images_per_s": speed} for (row, measure), speed in page.speeds.items()
        ],
        "outcomes": [{**asdict(one), "curve": [point._asdict() for point in one.curve]} for one in page.outcomes],
        "tries": [
            {
                "row": one.row,
                "chosen": dict(one.point.values),
                "edges": one.edges,
                "held_out_share": one.grid.share,
                "seeds": list(one.grid.seeds),
                "tried": [{"values": dict(each.values), "val_top1_percent": one.mean(each)} for each in one.scores],
            }
            for one in page.choices
        ],
        "failures": dict(page.failures),
        "made": dict(page.around),
    }
