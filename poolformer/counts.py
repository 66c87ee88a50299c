"""Numbers of things, in words."""


def counted(number: int | float, noun: str) -> str:
    """Return a number with what it counts, whose plural ends in s.

    Example:
        >>> counted(1, "image"), counted(2, "class")
        ('1 image', '2 classes')
    """
    if number == 1:
        return f"{number} {noun}"
    return f"{number} {noun}{'es' if noun.endswith('s') else 's'}"
