"""Adapters that come, change and go while a model is served: a folder that is looked at again and again."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from spellbound.errors import EngineBusy, InputError
from spellbound.files import words_of

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"


class Holder(Protocol):
    """A model with adapters beside it, as `spellbound.engine.Engine` is one."""

    def add_adapter(self, name: str, folder: Path) -> None:
        """Read an adapter, in place of one of that name. InputError if it cannot be, EngineBusy if in use."""

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter. EngineBusy if it is in use."""


_Stamp = tuple[tuple[str, int, int], ...]


@dataclass
class AdapterFolder:
    """Keeps a model's adapters what the folders in one folder are. Not for two threads at once."""

    folder: Path
    holder: Holder
    require_name: Callable[[str], str]
    """Raises InputError for what cannot be an adapter's name."""
    _taken: dict[str, _Stamp] = field(default_factory=dict)
    _refused: dict[str, _Stamp] = field(default_factory=dict)

    def refresh(self) -> list[str]:
        """Look once more; return a line for each thing that is wrong, once for as long as it stays as it is.

        What is being written with is looked at again when it is not. An adapter that cannot be read, for one
        because it is still being copied, leaves the one that was there before.
        """
        try:
            there = {each.name: stamp for each in sorted(self.folder.iterdir()) if (stamp := _stamp(each))}
        except OSError as error:
            return self._once("", ((words_of(error), 0, 0),), f"{self.folder}: {words_of(error)}")
        self._refused = {name: stamp for name, stamp in self._refused.items() if there.get(name) == stamp}
        for name in self._taken.keys() - there.keys():
            with suppress(EngineBusy):
                self.holder.remove_adapter(name)
                del self._taken[name]
        new = [name for name, stamp in there.items() if self._taken.get(name) != stamp]
        return [fault for name in new for fault in self._take(name, there[name])]

    def _take(self, name: str, stamp: _Stamp) -> list[str]:
        try:
            self.holder.add_adapter(self.require_name(name), self.folder / name)
        except EngineBusy:
            return []
        except (InputError, OSError) as error:
            return self._once(name, stamp, str(error))
        self._taken[name] = stamp
        return []

    def _once(self, name: str, stamp: _Stamp, fault: str) -> list[str]:
        if self._refused.get(name) == stamp:
            return []
        self._refused[name] = stamp
        return [fault]


def _stamp(folder: Path) -> _Stamp | None:
    """Return what changes when an adapter does; None for what is none, and for drafts (`.…`)."""
    if folder.name.startswith(".") or not (folder / CONFIG).is_file():
        return None
    stats = [(name, (folder / name).stat()) for name in (CONFIG, WEIGHTS) if (folder / name).is_file()]
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)
