"""What is said of a value that an option does not take."""

import re
from collections.abc import Iterable, Sequence

from ..errors import suggestion

_WORDS = {
    "NoneType": "null",
    "int": "an integer",
    "float": "a number",
    "str": "a string",
    "bool": "true or false",
    "tuple": "a list",
}


def refused(option: str, value: str, types: Iterable[str], choices: Sequence[str] = (), *, place: str = "") -> str:
    """Return what is said.

    Args:
        option: Its name, without dashes.
        value: As it was written.
        types: Names of the types that the option takes, or words for them.
        choices: Words that it takes.
        place: The file that it stands in, as part of a sentence.

    Example:
        >>> refused("model.lr", "fast", ["float", "NoneType"])
        "--model.lr got 'fast', but expects a number or null."
    """
    expected = list(dict.fromkeys([*choices, *(_WORDS.get(kind, kind) for kind in types)]))
    words = re.findall(r"[\w.-]+", value)
    if choices and (value.startswith("[") or "," in value):
        wrong = next((word for word in words if word not in choices), "")
        value = f"[{', '.join(words)}]" if value.startswith("[") else value
        meant = suggestion(wrong, list(choices)) if wrong else f" Did you mean '[{', '.join(words)}]'?"
    else:
        meant = suggestion(value, list(choices))
    return f"--{option} got '{value}'{place}, but expects {' or '.join(expected)}.{meant}"
