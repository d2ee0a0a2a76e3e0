"""Models by the names that clients give them: NAME, NAME:ADAPTER, and each of them with -plain."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from spellbound.errors import InputError
from spellbound.server.errors import ApiError
from spellbound.story.completion import Completer

PLAIN = "-plain"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Offer:
    """A model as a client may choose it."""

    name: str
    base: str
    completer: Completer
    adapter: str | None
    plain: bool
    """Whether tags become prose."""

    @property
    def there(self) -> bool:
        """Whether it can still be asked for: adapters may go."""
        return self.adapter is None or self.adapter in self.completer.adapters


class Offers:
    """Everything that may be asked for; a model that was not configured is never looked for."""

    def __init__(self, models: Mapping[str, Completer]) -> None:
        """Offer these; InputError for names that clients could not tell apart."""
        if not models:
            raise InputError("no model is to be served; name one")
        self.completers = dict(models)
        self._offers: dict[str, Offer] = {}
        for base, completer in models.items():
            for adapter in (None, *completer.adapters):
                name = require_name(base) if adapter is None else f"{base}:{require_adapter_name(adapter)}"
                for offered, plain in ((name, False), (f"{name}{PLAIN}", True)):
                    if offered in self._offers:
                        raise InputError(f"two models would be called {offered!r}; rename one of them")
                    self._offers[offered] = Offer(offered, base, completer, adapter, plain)

    @property
    def names(self) -> list[str]:
        """All names."""
        return list(self._offers)

    def __iter__(self) -> Iterator[Offer]:
        """Yield every model, the one that is meant where none is named first."""
        return iter(self._offers.values())

    def __contains__(self, name: object) -> bool:
        """Say whether there is a model of this name."""
        return name in self._offers

    def lasts(self, name: str) -> bool:
        """Whether there is a model of this name, and always will be: it is no adapter."""
        return name in self._offers and self._offers[name].adapter is None

    def find(self, name: str | None) -> Offer:
        """Return a model by its name, the first one for none; ApiError if there is no such model."""
        if not name:
            return next(iter(self))
        if name not in self._offers:
            raise self.missing(name)
        return self._offers[name]

    def missing(self, name: str) -> ApiError:
        """Return what to say of a model that is not there."""
        known = ", ".join(each for each in self.names[:20] if each != name)
        return ApiError(
            404,
            f"the model {name[:80]!r} is not here; choose one of: {known}",
            param="model",
            code="model_not_found",
        )


def require_adapter_name(name: str) -> str:
    """Return an adapter's name; InputError for one that clients could misread, as that of a plain model."""
    if name.endswith(PLAIN):
        raise InputError(f"{name!r:.80} is no name for an adapter, for plain models end so; give another")
    return require_name(name)


def require_name(name: str) -> str:
    """Return a model's or adapter's name; InputError for one that clients could misread."""
    if not _NAME.fullmatch(name) or len(name) > 96:
        raise InputError(
            f"{name!r:.80} is no name for a model or an adapter; use letters, digits, '.', '_' and '-'"
        )
    return name
