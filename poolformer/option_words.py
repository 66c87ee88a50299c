"""Words that options of the verbs take, known before what they are for is imported."""

from typing import Literal

WhenSavingFails = Literal["stop", "continue"]
LogPart = Literal[
    "first_batch", "errors", "cam", "confusion", "classes", "calibration", "averages", "norms", "waiting", "memory"
]
LogParts = Literal["all"] | LogPart | list[LogPart] | None
