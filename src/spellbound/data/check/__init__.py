"""What is wrong with training files: every fault with file, row, field and remedy, in bounded memory."""

from spellbound.data.check.faults import CODES, WARNINGS, Code, Fault
from spellbound.data.check.inspection import Inspection
from spellbound.data.check.limits import Limits

__all__ = ["CODES", "WARNINGS", "Code", "Fault", "Inspection", "Limits"]
