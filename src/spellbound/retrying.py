"""When a server that has no time now wants to be asked again. Standard library only."""

import math
from email.utils import parsedate_to_datetime


def waiting_time(retry_after: str | None, date: str | None, now: float) -> float | None:
    """Seconds that a Retry-After header asks for, as seconds or as a date; None if it says nothing.

    A date is compared with the server's own clock (its Date header) where it shows one, else with `now`.
    """
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        then = _moment(retry_after)
        seconds = math.nan if then is None else then - (_moment(date) or now)
    return None if math.isnan(seconds) else max(0.0, seconds)


def _moment(date: str | None) -> float | None:
    try:
        return parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):
        return None
