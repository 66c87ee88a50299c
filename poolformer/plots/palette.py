"""The colours of rows: the same in every figure, each for light and for dark ground."""

COLOURS = (
    ("#1f5fbf", "#6ea8ff"),
    ("#d9480f", "#ff8a4c"),
    ("#2b8a3e", "#69db7c"),
    ("#862e9c", "#da77f2"),
    ("#b08900", "#ffd43b"),
    ("#5f6368", "#adb5bd"),
    ("#15aabf", "#3bc9db"),
    ("#c2255c", "#faa2c1"),
    ("#74b816", "#c0eb75"),
    ("#8d5524", "#d9a679"),
    ("#4dabf7", "#a5d8ff"),
    ("#e599f7", "#eebefa"),
)
"""On white, and on black."""
