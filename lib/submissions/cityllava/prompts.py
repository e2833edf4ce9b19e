"""The questions of CityLLaVA's inference, in their order, and what becomes of the raw answers (specs/cityllava.md section 9).

The two questions are the full ones of training, and about "the ego-vehicle" where the camera is in the vehicle, which training only
says if its quirk `ego_wording` is corrected.
"""

from typing import Literal

from lib import conversation
from lib.config import Quirk
from lib.conversation import CHATML_DIRECT
from lib.submissions.cityllava.annotations import PHASES, Kind, View
from lib.submissions.cityllava.filters import word_boxes
from lib.submissions.cityllava.short_qa import FULL_QUESTION

Order = Literal["vehicle_first", "pedestrian_first", "independent"]

# What is asked in each conversation about one picture. The paper found the vehicle first to be best.
ORDERS: dict[Order, tuple[tuple[Kind, ...], ...]] = {
    "vehicle_first": (("vehicle", "pedestrian"),),
    "pedestrian_first": (("pedestrian", "vehicle"),),
    "independent": (("vehicle",), ("pedestrian",)),
}


def question(kind: Kind, phase: int, view: View, *, stage_line: Quirk) -> str:
    """What is asked about the pedestrian or the vehicle in a picture of this phase (0 to 4), without the picture's own mark.

    `stage_line` as_published ends the sentence on the stage with a line end, which training does not.
    """
    gap = "\n" if stage_line == "as_published" else ""
    text = word_boxes(FULL_QUESTION[kind], ego=view != "overhead", ego_wording="corrected")
    return f"This is an image in '{PHASES[phase]}' stage. {gap}{text}"


def clean(raw: str) -> str:
    """The caption in a raw answer: without the blanks around it and the markers. A line end before a marker stays, as published."""
    return conversation.clean(raw, CHATML_DIRECT)
