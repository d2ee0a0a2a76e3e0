"""Snapshots on disk, so that a story goes on at once after a restart.

A file is named by what its content follows from: format, model, space and every token up to its end, hashed
page by page. A full page of keys and values is a file that all snapshots behind it share; a snapshot's own
file holds its Mamba states, what its last page is filled with, and the name of the page before. Files appear
whole or not at all; one that cannot be read is removed and counts as not there.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from spellbound.engine.cache import Ids, Snapshot
from spellbound.errors import InputError, SpellboundError
from spellbound.files import replacing, unwritable
from spellbound.jamba.sequence import PAGE, MambaRow, Page, SequenceState, page_shape
from spellbound.jamba.storing import storing

if TYPE_CHECKING:
    from spellbound.jamba import JambaForCausalLM

FORMAT = "spellbound-story-cache/1"
_STATE, _PAGE = ".state.safetensors", ".page.safetensors"
_STALE = 60.0  # seconds after which a draft has nobody who writes it
_WAITING = 256  # files that wait to be written; what comes then is not kept
_UNREADABLE = (OSError, SafetensorError, KeyError, ValueError, RuntimeError)


@dataclass(frozen=True)
class _File:
    """What is known of a file without its tensors."""

    parent: str
    """Name of the full page before it; nothing for the first."""
    nbytes: int
    logits: bool = False


class Disk:
    """A folder of snapshots of one model. Files are written by a thread of its own, in order."""

    def __init__(self, folder: Path, model: JambaForCausalLM, *, max_bytes: int = 8 * 2**30) -> None:
        """Use a folder, made if it is not there; other models' snapshots in it are left alone.

        InputError if there can be no such folder.
        """
        if max_bytes < 0:
            raise InputError(f"the story cache on disk was given {max_bytes} bytes; give 0 or more")
        self.max_bytes = max_bytes
        self.nbytes = 0
        """Of all files, those still to be written included."""
        self.failed = 0
        """Files that could not be written or read."""
        self._model = model
        self._root = hashlib.sha256(f"{FORMAT} {model.fingerprint()} {model.dtype}".encode()).hexdigest()[:32]
        self.folder = folder / self._root
        self._files: dict[str, _File] = {}
        self._users: Counter[str] = Counter()
        self._shared: WeakValueDictionary[str, Page] = WeakValueDictionary()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.folder, error) from error
        self._queue: Queue[tuple[Path, dict[str, Tensor], dict[str, str]] | None] = Queue(_WAITING)
        self._thread = Thread(target=self._write, name="spellbound-disk", daemon=True)
        self._thread.start()

    @property
    def over_budget(self) -> bool:
        """Whether files have to go."""
        return self.nbytes > self.max_bytes

    def index(self) -> Iterator[tuple[str, Ids, str]]:
        """Yield space, tokens and name of each snapshot that is there; remove what is broken or useless."""
        pages: dict[str, tuple[_File, Ids]] = {}
        states: dict[str, tuple[_File, Ids, str]] = {}
        for path in sorted(self.folder.iterdir()):
            if path.suffix == ".tmp":
                with suppress(OSError):
                    if time.time() - path.stat().st_mtime > _STALE:
                        path.unlink()
                continue
            name = path.name.partition(".")[0]
            try:
                with safe_open(path, framework="pt") as stored:
                    told = stored.metadata() or {}
                    if told["format"] != FORMAT or told["name"] != name:
                        raise ValueError("another file's content")
                    ids = stored.get_tensor("ids").numpy().astype(np.int32)
                    file = _File(told["page"], path.stat().st_size, "logits" in stored.keys())  # noqa: SIM118
                    if path.name.endswith(_PAGE):
                        pages[name] = (file, ids)
                    else:
                        states[name] = (file, ids, told["space"])
            except _UNREADABLE:
                self._unlink(path)
        for name, (file, tail, space) in states.items():
            parts, parent = [tail], file.parent
            while parent and parent in pages:
                parts.append(pages[parent][1])
                parent = pages[parent][0].parent
            if parent:
                self._unlink(self._path(name, _STATE))
                continue
            self._count(name, file)
            for page in self._chain(file.parent, {each: pages[each][0] for each in pages}):
                if page not in self._files:
                    self._count(page, pages[page][0])
            yield space, np.concatenate(parts[::-1]), name
        for name in pages.keys() - self._files.keys():
            self._unlink(self._path(name, _PAGE))

    def save(self, space: str, ids: Ids, snapshot: Snapshot) -> str:
        """Have a snapshot written, and those of its pages that are not there; return its name, or nothing."""
        *whole, name = self._names(space, ids)
        if name in self._files:
            return name
        missing = [number for number, page in enumerate(whole) if page not in self._files]
        if self._queue.qsize() + len(missing) >= _WAITING:
            return ""
        state = snapshot.state
        for number in missing:
            page = state.pages[number]
            own = ids[number * PAGE : (number + 1) * PAGE]
            before = whole[number - 1] if number else ""
            self._put(
                whole[number], _PAGE, before, {"numbers": page.numbers, "ids": torch.from_numpy(own)}, {}
            )
            self._shared[whole[number]] = page
        tensors = {"ids": torch.from_numpy(ids[len(whole) * PAGE :])}
        if inside := state.length % PAGE:
            tensors["tail"] = state.pages[-1].numbers[:, :, :, :inside]
        if snapshot.logits_V is not None:
            tensors["logits"] = snapshot.logits_V
        for layer, row in enumerate(state.mamba):
            tensors[f"window.{layer}"], tensors[f"ssm.{layer}"] = row.tensors()
        self._put(name, _STATE, whole[-1] if whole else "", tensors, {"space": space})
        return name

    def load(self, name: str) -> Snapshot | None:
        """Return a snapshot, pages shared with others that are in memory; None if it cannot be used."""
        file = self._files.get(name)
        if file is None:
            return None
        device = self._model.device
        try:
            numbers = [self._page(page) for page in self._chain(file.parent, self._files)]
            with safe_open(self._path(name, _STATE), framework="pt") as stored:
                names = set(stored.keys())
                mamba: list[MambaRow] = []
                while f"ssm.{len(mamba)}" in names:
                    window, ssm = (stored.get_tensor(f"{kind}.{len(mamba)}") for kind in ("window", "ssm"))
                    mamba.append(MambaRow(window.to(device), ssm.to(device), 0))
                tail_ids = len(stored.get_tensor("ids"))
                logits_V = stored.get_tensor("logits") if "logits" in names else None
                state = SequenceState(self._model, mamba, len(numbers) * PAGE + tail_ids)
                if "tail" in names:
                    page = torch.empty(page_shape(self._model), dtype=self._model.dtype, device=device)
                    page[:, :, :, :tail_ids] = stored.get_tensor("tail").to(device)
                    numbers.append(Page(page, tail_ids))
                state.hold(numbers)
        except _UNREADABLE:
            self.failed += 1
            return None
        return Snapshot(state, logits_V)

    def has_logits(self, name: str) -> bool:
        """Whether a text may end where this snapshot does."""
        return name in self._files and self._files[name].logits

    def remove(self, name: str) -> None:
        """Take a snapshot away, and the pages that nobody else needs."""
        file, ending = self._files.pop(name, None), _STATE
        while file is not None:
            self.nbytes -= file.nbytes
            self._unlink(self._path(name, ending))
            name, ending = file.parent, _PAGE
            if not name:
                return
            self._users[name] -= 1
            if self._users[name]:
                return
            del self._users[name]
            file = self._files.pop(name, None)

    def flush(self) -> None:
        """Wait until everything is written that was to be."""
        self._queue.join()

    def close(self) -> None:
        """Write what waits, and end."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _names(self, space: str, ids: Ids) -> list[str]:
        """Return the names of the full pages and of the snapshot at the end."""
        digest = hashlib.sha256(f"{self._root} {space}".encode())
        names, whole = [], len(ids) // PAGE
        for number in range(whole):
            digest.update(ids[number * PAGE : (number + 1) * PAGE].astype("<i4").tobytes())
            names.append(digest.hexdigest()[:32])
        digest.update(b"end" + ids[whole * PAGE :].astype("<i4").tobytes())
        return [*names, digest.hexdigest()[:32]]

    def _chain(self, last: str, files: dict[str, _File]) -> list[str]:
        """Return the names of a page and all before it, first ones first."""
        names = []
        while last:
            names.append(last)
            last = files[last].parent
        return names[::-1]

    def _page(self, name: str) -> Page:
        """Return a full page, from memory if somebody holds it."""
        page = self._shared.get(name)
        if page is None:
            with safe_open(self._path(name, _PAGE), framework="pt") as stored:
                numbers = stored.get_tensor("numbers").to(self._model.device)
            if numbers.shape != page_shape(self._model) or numbers.dtype != self._model.dtype:
                raise ValueError("a page of another model")
            page = self._shared[name] = Page(numbers, PAGE)
        return page

    def _put(
        self, name: str, ending: str, parent: str, tensors: dict[str, Tensor], told: dict[str, str]
    ) -> None:
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        self._count(name, _File(parent, size, "logits" in tensors))
        metadata = {"format": FORMAT, "name": name, "page": parent, **told}
        self._queue.put((self._path(name, ending), tensors, metadata))

    def _count(self, name: str, file: _File) -> None:
        self._files[name] = file
        self.nbytes += file.nbytes
        if file.parent:
            self._users[file.parent] += 1

    def _path(self, name: str, ending: str) -> Path:
        return self.folder / f"{name}{ending}"

    def _unlink(self, path: Path) -> None:
        with suppress(OSError):
            path.unlink(missing_ok=True)

    def _write(self) -> None:
        """Write files as they come; a disk that is full costs what it cannot take and nothing else."""
        while True:
            try:
                job = self._queue.get()
                if job is None:
                    return
                path, tensors, metadata = job
                name = metadata["name"]
                if name in self._files:  # not removed meanwhile
                    whole = {key: tensor.contiguous().cpu() for key, tensor in tensors.items()}
                    with replacing(path) as draft, storing():
                        save_file(whole, draft, metadata=metadata)
                    if name not in self._files:
                        self._unlink(path)
            except SpellboundError:
                self.failed += 1
            finally:
                self._queue.task_done()
