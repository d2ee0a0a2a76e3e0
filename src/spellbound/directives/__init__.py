"""The directive language: prompts that steer a story, and tags that say who is speaking in it.

Normative description: docs/directives.md.
"""

from spellbound.directives.characters import Character
from spellbound.directives.checks import check_story
from spellbound.directives.events import KINDS, Close, Event, Kind, Open, Text
from spellbound.directives.grammar import grammar, structural_tag
from spellbound.directives.languages import MARKS, QuotationMarks, quotation_marks
from spellbound.directives.problems import Problem
from spellbound.directives.prompts import StoryPrompt
from spellbound.directives.rendering import FORMATS, FormatName, Renderer, render
from spellbound.directives.repairs import Repair, RepairCode
from spellbound.directives.speaker_ids import is_speaker_id, new_speaker_id
from spellbound.directives.stories import extend_story, is_story
from spellbound.directives.stream import StreamParser, parse

__all__ = [
    "FORMATS",
    "KINDS",
    "MARKS",
    "Character",
    "Close",
    "Event",
    "FormatName",
    "Kind",
    "Open",
    "Problem",
    "QuotationMarks",
    "Renderer",
    "Repair",
    "RepairCode",
    "StoryPrompt",
    "StreamParser",
    "Text",
    "check_story",
    "extend_story",
    "grammar",
    "is_speaker_id",
    "is_story",
    "new_speaker_id",
    "parse",
    "quotation_marks",
    "render",
    "structural_tag",
]
