"""What is in training files: counted in bounded memory, printed and drawn."""

from spellbound.data.stats.report import write_report
from spellbound.data.stats.tally import Names, Spread, Tally

__all__ = ["Names", "Spread", "Tally", "write_report"]
