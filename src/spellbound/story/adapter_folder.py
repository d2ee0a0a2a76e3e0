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


_Stamp = tuple[tuple[str, int, int, int, int], ...]


@dataclass
class AdapterFolder:
    """Keeps a model's adapters what the folders in one folder are. Not for two threads at once."""

    folder: Path
    holder: Holder
    require_name: Callable[[str], str]
    """Raises InputError for what cannot be an adapter's name."""
    _taken: dict[str, _Stamp] = field(default_factory=dict)
    _failed: dict[str, _Stamp] = field(default_factory=dict)
    """What could not be read and may still be being copied."""
    _refused: dict[str, _Stamp] = field(default_factory=dict)
    """What could not be read twice; it is not tried again until it changes."""
    _lost: str = ""
    """What was wrong with the folder itself when last looked at."""

    def refresh(self) -> list[str]:
        """Look once more; return a line for each thing that is wrong, the second time that it is found so.

        What is being written with is looked at again when it is not. An adapter that cannot be read leaves
        the one that was there before.
        """
        try:
            there = {each.name: stamp for each in sorted(self.folder.iterdir()) if (stamp := _stamp(each))}
        except OSError as error:
            before, self._lost = self._lost, words_of(error)
            return [] if before == self._lost else [f"{self.folder}: {self._lost}"]
        self._lost = ""
        for name in self._taken.keys() - there.keys():
            with suppress(EngineBusy):
                self.holder.remove_adapter(name)
                del self._taken[name]
        new = [name for name, stamp in there.items() if self._taken.get(name) != stamp]
        return [fault for name in new for fault in self._take(name, there[name])]

    def _take(self, name: str, stamp: _Stamp) -> list[str]:
        if self._refused.get(name) == stamp:
            return []
        try:
            self.holder.add_adapter(self.require_name(name), self.folder / name)
        except EngineBusy:
            return []
        except Exception as error:  # noqa: BLE001 (whatever is in that folder, the others are taken)
            first, self._failed[name] = self._failed.get(name) != stamp, stamp
            if first:
                return []
            self._refused[name] = stamp
            told = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            return [f"{self.folder / name}: cannot be used: {told}".replace("\n", " ")]
        self._taken[name] = stamp
        return []


def _stamp(folder: Path) -> _Stamp | None:
    """Return what changes when an adapter does; None for what is none or not ours to read, and for drafts."""
    if folder.name.startswith("."):
        return None
    try:
        if not (folder / CONFIG).is_file():
            return None
        stats = [(name, (folder / name).stat()) for name in (CONFIG, WEIGHTS) if (folder / name).is_file()]
    except OSError:
        return None
    return tuple((name, it.st_mtime_ns, it.st_ctime_ns, it.st_ino, it.st_size) for name, it in stats)
