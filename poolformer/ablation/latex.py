"""An ablation's table as LaTeX: rows for booktabs, with what stands below it as comments."""

import re
from collections.abc import Sequence

_SPECIAL = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "<": r"$<$", ">": r"$>$", "|": r"$|$", '"': "''"},
}
_MINUS = re.compile(r"(?<![\w.)-])-(?=\d)")


def latex(table: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    """Return a table for LaTeX, of booktabs; its first column is words and the others numbers.

    Args:
        table: The header and the rows, as texts.
        notes: A line each, written as comments.
    """
    header, *rows = ([_cell(text) for text in line] for line in table)
    lines = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
        r"\toprule",
        f"{' & '.join(header)} " + r"\\",
        r"\midrule",
        *(f"{' & '.join(row)} " + r"\\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(f"% {' '.join(note.split())}" for note in notes),
    ]
    return "\n".join(lines)


def escaped(text: str) -> str:
    r"""Return a text as LaTeX prints it, its minus signs as such.

    Example:
        >>> print(escaped("50 %, -1.5 of my_mixer"))
        50 \%, $-$1.5 of my\_mixer
    """
    parts = ("".join(_SPECIAL.get(letter, letter) for letter in part) for part in _MINUS.split(text))
    return "$-$".join(parts)


def _cell(text: str) -> str:
    if text == "-":
        return "--"
    # What begins a row with one of these would be an argument of the \\ before it.
    return f"{{}}{escaped(text)}" if text.startswith(("[", "*")) else escaped(text)
