"""Texts of `--help` at the width of the terminal: prose, columns, and commands that still run when pasted."""

import re
import textwrap

_COLUMN = re.compile(r" *\S+(?: \S+)* {2,}(?=\S)")
_COMMAND = re.compile(r" *(poolformer|pip|make) ")
# What is quoted, and an option with its value.
_WHOLE = re.compile(r"""(--?\w\S* )?(?:"[^"]*"|'[^']*')|--?\w\S* (?!-)""")
_TOGETHER = "\0"  # in the place of a space that is no place for a line to end


def wrapped(text: str, *, width: int) -> str:
    r"""Wrap the paragraphs of a text.

    Columns are wrapped under their last one, and an indented command is continued as a shell has it, so that it can be
    pasted.

    Args:
        text: Paragraphs, with empty lines between.
        width: Characters of a line.

    Example:
        >>> print(wrapped("  poolformer plot runs/a --out a.svg", width=32))
          poolformer plot runs/a \
            --out a.svg
    """
    parts = re.split(r"\n\s*\n", text.strip("\n"))
    return "\n\n".join(
        _rows(part, width) if re.search(r"^ |  ", part, re.MULTILINE) else textwrap.fill(part, width) for part in parts
    )


def _rows(part: str, width: int) -> str:
    if max(map(len, part.splitlines())) <= width:
        return part
    rows: list[str] = []
    for line in part.splitlines():
        column = _COLUMN.match(rows[-1]) if rows else None
        if column and len(line) - len(line.lstrip()) == column.end():  # the row above goes on
            rows[-1] += f" {line.lstrip()}"
        else:
            rows.append(line)
    return "\n".join(_row(row, width) for row in rows)


def _row(row: str, width: int) -> str:
    if len(row) <= width:
        return row
    indent = " " * (len(row) - len(row.lstrip()))
    if _COMMAND.match(row):
        whole = _WHOLE.sub(lambda found: found[0].replace(" ", _TOGETHER), row)
        lines = _fill(whole, width - 2, indent, f"{indent}  ").splitlines()
        return " \\\n".join(lines).replace(_TOGETHER, " ")
    column = _COLUMN.match(row)
    # A first column that leaves the second too little is put above it.
    deep = column.end() if column and column.end() <= width // 2 else len(indent) + 4
    return _fill(row, width, "", " " * deep)


def _fill(row: str, width: int, first: str, others: str) -> str:
    return textwrap.fill(
        row.strip() if first else row,
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def narrowed(usage: str, *, width: int) -> str:
    """Move the lines of a usage to the left where they stand beyond the terminal, as argparse has them under the first.

    Args:
        usage: Lines as argparse writes them.
        width: Characters of a line.
    """
    lines = usage.splitlines()
    if max(map(len, lines), default=0) <= width:
        return usage
    return _fill(" ".join(usage.split()), width, "", " " * 4)
