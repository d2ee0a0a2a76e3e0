"""Snapshots on disk, so that a story goes on at once after a restart.

A file is named by what its content follows from: format, model, space and every token up to its end, hashed
page by page. A full page of keys and values is a file that all snapshots behind it share; a snapshot's own
file holds its Mamba states, what its last page is filled with, and the name of the page before. Files appear
whole or not at all; one that cannot be read is removed and counts as not there.
"""

from __future__ import annotations

import hashlib
import os
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Condition, Thread
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from spellbound.engine.cache import Ids, Snapshot
from spellbound.errors import InputError
from spellbound.files import replacing, unwritable
from spellbound.jamba.sequence import PAGE, MambaRow, Page, SequenceState, page_shape
from spellbound.jamba.storing import storing

if TYPE_CHECKING:
    from spellbound.jamba import JambaForCausalLM

FORMAT = "spellbound-story-cache/1"
_STATE, _PAGE = ".state.safetensors", ".page.safetensors"
_STALE = 60.0  # seconds after which a draft, or a page that nothing refers to, has nobody who writes on
_WAITING_BYTES = 1 << 30  # that wait to be written; more is not taken unless nothing waits
_BROKEN = (SafetensorError, KeyError, ValueError, RuntimeError)


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
        self.refused = 0
        """Snapshots that were not taken because too much waited."""
        self._model = model
        self._root = hashlib.sha256(f"{FORMAT} {model.fingerprint()} {model.dtype}".encode()).hexdigest()[:32]
        self.folder = folder / self._root
        self._files: dict[str, _File] = {}
        self._users: Counter[str] = Counter()
        self._shared: weakref.WeakValueDictionary[str, Page] = weakref.WeakValueDictionary()
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise unwritable(self.folder, error) from error
        self._hand = _Hand(self.folder)
        # At the end of the program, too: what waits is written then.
        self._end = weakref.finalize(self, self._hand.finish)

    @property
    def over_budget(self) -> bool:
        """Whether files have to go."""
        return self.nbytes > self.max_bytes

    def index(self) -> Iterator[tuple[str, Ids, str]]:
        """Yield space, tokens and name of each snapshot that is there, the longest unused ones first.

        What is broken is removed, and what nothing refers to unless it is so new that another process may be
        about to.
        """
        pages: dict[str, tuple[_File, Ids]] = {}
        states: list[tuple[float, str, _File, Ids, str]] = []
        for path in sorted(self.folder.iterdir()):
            if path.suffix == ".tmp":
                self._unlink_old(path)
                continue
            found = self._look(path)
            if found is None:
                continue
            name, (file, ids, space) = path.name.partition(".")[0], found
            if path.name.endswith(_PAGE):
                pages[name] = (file, ids)
            else:
                states.append((_age(path), name, file, ids, space))
        for _, name, file, tail, space in sorted(states, key=lambda state: state[0]):
            parts, parent = [tail], file.parent
            while parent and parent in pages:
                parts.append(pages[parent][1])
                parent = pages[parent][0].parent
            if parent:
                self._unlink_old(self._path(name, _STATE))
                continue
            self._count(name, file)
            last = file.parent
            while last and last not in self._files:
                self._count(last, pages[last][0])
                last = pages[last][0].parent
            yield space, np.concatenate(parts[::-1]), name
        for name in pages.keys() - self._files.keys():
            self._unlink_old(self._path(name, _PAGE))

    def save(self, space: str, ids: Ids, snapshot: Snapshot) -> str:
        """Have a snapshot written, and those of its pages that are not there.

        Return its name, or nothing if too much waits already; `refused` counts those.
        """
        self._note_failures()
        *whole, name = self._names(space, ids)
        known = self._files.get(name)
        if known is not None and (known.logits or snapshot.logits_V is None):
            return name
        if self._hand.waiting_bytes > _WAITING_BYTES or not self._end.alive:
            self.refused += 1
            return ""
        state = snapshot.state
        for number, page_name in enumerate(whole):
            if page_name not in self._files:
                page = self._shared[page_name] = state.pages[number]
                own = torch.from_numpy(ids[number * PAGE : (number + 1) * PAGE].copy())
                before = whole[number - 1] if number else ""
                tensors = {"numbers": page.numbers, "ids": own}
                self._put(page_name, _PAGE, before, tensors, {}, page)
        tensors = {"ids": torch.from_numpy(ids[len(whole) * PAGE :].copy())}
        if inside := state.length % PAGE:
            tensors["tail"] = state.pages[-1].numbers[:, :, :, :inside]
        if snapshot.logits_V is not None:
            tensors["logits"] = snapshot.logits_V
        for layer, row in enumerate(state.mamba):
            tensors[f"window.{layer}"], tensors[f"ssm.{layer}"] = row.tensors()
        if known is not None:  # without logits: it is written anew
            self._discount(name, known)
        self._put(name, _STATE, whole[-1] if whole else "", tensors, {"space": space}, snapshot)
        return name

    def load(self, name: str) -> Snapshot | None:
        """Return a snapshot, pages shared with others that are in memory; None if it cannot be used."""
        self._note_failures()
        file, waiting = self._files.get(name), self._hand.waiting(name)
        if file is None:
            return None
        if isinstance(waiting, Snapshot):
            return waiting
        device, path = self._model.device, self._path(name, _STATE)
        try:
            pages = self._pages(file.parent)
            with safe_open(path, framework="pt") as stored:
                names = set(stored.keys())
                mamba: list[MambaRow] = []
                while f"ssm.{len(mamba)}" in names:
                    window, ssm = (stored.get_tensor(f"{kind}.{len(mamba)}") for kind in ("window", "ssm"))
                    mamba.append(MambaRow(window.to(device), ssm.to(device), 0))
                tail_ids = len(stored.get_tensor("ids"))
                logits_V = stored.get_tensor("logits") if "logits" in names else None
                state = SequenceState(self._model, mamba, len(pages) * PAGE + tail_ids)
                if "tail" in names:
                    page = torch.empty(page_shape(self._model), dtype=self._model.dtype, device=device)
                    page[:, :, :, :tail_ids] = stored.get_tensor("tail").to(device)
                    pages.append(Page(page, pages[-1] if pages else None, tail_ids))
                state.hold(pages)
            os.utime(path)  # used: it leaves after others
        except (OSError, *_BROKEN):
            self.failed += 1
            return None
        return Snapshot(state, logits_V)

    def has_logits(self, name: str) -> bool:
        """Whether a text may end where this snapshot does."""
        return name in self._files and self._files[name].logits

    def remove(self, name: str) -> None:
        """Take a snapshot away, and the pages that nobody else needs."""
        file, ending = self._files.get(name), _STATE
        while file is not None:
            self._discount(name, file)
            self._hand.drop(self._path(name, ending))
            name, ending = file.parent, _PAGE
            if not name or self._users[name]:
                return
            file = self._files.get(name)

    def flush(self) -> None:
        """Wait until everything is written that was to be."""
        self._hand.flush()

    def close(self) -> None:
        """Write what waits, and take no more."""
        self._end()

    def _names(self, space: str, ids: Ids) -> list[str]:
        """Return the names of the full pages and of the snapshot at the end."""
        digest = hashlib.sha256(f"{self._root} {space}".encode())
        names, whole = [], len(ids) // PAGE
        for number in range(whole):
            digest.update(ids[number * PAGE : (number + 1) * PAGE].astype("<i4").tobytes())
            names.append(digest.hexdigest()[:32])
        digest.update(b"end" + ids[whole * PAGE :].astype("<i4").tobytes())
        return [*names, digest.hexdigest()[:32]]

    def _pages(self, last: str) -> list[Page]:
        """Return a full page and all before it, first ones first; from memory what somebody holds."""
        names, held = [], None
        while last and (held := self._shared.get(last)) is None:
            names.append(last)
            last = self._files[last].parent
        pages = []
        while held is not None:
            pages.append(held)
            held = held.before
        pages.reverse()
        for name in reversed(names):
            pages.append(self._read_page(name, pages[-1] if pages else None))
        return pages

    def _read_page(self, name: str, before: Page | None) -> Page:
        with safe_open(self._path(name, _PAGE), framework="pt") as stored:
            numbers = stored.get_tensor("numbers").to(self._model.device)
        if numbers.shape != page_shape(self._model) or numbers.dtype != self._model.dtype:
            raise ValueError("a page of another model")
        page = self._shared[name] = Page(numbers, before, PAGE)
        return page

    def _put(
        self,
        name: str,
        ending: str,
        parent: str,
        tensors: dict[str, Tensor],
        told: dict[str, str],
        what: Snapshot | Page,
    ) -> None:
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        self._count(name, _File(parent, size, "logits" in tensors))
        metadata = {"format": FORMAT, "name": name, "page": parent, **told}
        self._hand.put(_Job(self._path(name, ending), tensors, metadata, size, what))

    def _count(self, name: str, file: _File) -> None:
        self._files[name] = file
        self.nbytes += file.nbytes
        if file.parent:
            self._users[file.parent] += 1

    def _discount(self, name: str, file: _File) -> None:
        del self._files[name]
        self.nbytes -= file.nbytes
        if file.parent:
            self._users[file.parent] -= 1
            if not self._users[file.parent]:
                del self._users[file.parent]

    def _note_failures(self) -> None:
        """Forget what could not be written, and what stands on it: when it comes again, it is written."""
        for name in self._hand.failures():
            self.failed += 1
            lost = [name]
            for each in lost:
                lost += [other for other, file in self._files.items() if file.parent == each]
            for each in reversed(lost):
                if (file := self._files.get(each)) is not None:
                    self._discount(each, file)
                    for ending in (_STATE, _PAGE):
                        self._hand.drop(self._path(each, ending))

    def _look(self, path: Path) -> tuple[_File, Ids, str] | None:
        """Read what a file says of itself; one that is broken is removed."""
        try:
            with safe_open(path, framework="pt") as stored:
                told = stored.metadata() or {}
                if told["format"] != FORMAT or told["name"] != path.name.partition(".")[0]:
                    raise ValueError("another file's content")
                ids = stored.get_tensor("ids").numpy().astype(np.int32)
                file = _File(told["page"], path.stat().st_size, "logits" in stored.keys())  # noqa: SIM118
                return file, ids, told.get("space", "")
        except OSError:
            return None  # gone, or not to be read now: not ours to remove
        except _BROKEN:
            self._unlink(path)
            return None

    def _path(self, name: str, ending: str) -> Path:
        return self.folder / f"{name}{ending}"

    def _unlink(self, path: Path) -> None:
        with suppress(OSError):
            path.unlink(missing_ok=True)

    def _unlink_old(self, path: Path) -> None:
        if time.time() - _age(path) > _STALE:
            self._unlink(path)


@dataclass(frozen=True)
class _Job:
    """A file to write, and what it is made of."""

    path: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    nbytes: int
    what: Snapshot | Page

    @property
    def name(self) -> str:
        """Of the file, without its ending."""
        return self.metadata["name"]


class _Hand:
    """Writes files one by one on a thread of its own. It knows no model, so it holds none in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._waiting: dict[Path, _Job] = {}
        self._failures: list[str] = []
        self._changed = Condition()
        self.waiting_bytes = 0
        self._thread = Thread(target=self._work, name="spellbound-disk", daemon=True)
        self._thread.start()

    def put(self, job: _Job) -> None:
        """Have a file written; one of that name that waits is written in its newer form alone."""
        with self._changed:
            self._waiting[job.path] = job
            self.waiting_bytes += job.nbytes
        self._jobs.put(job)

    def drop(self, path: Path) -> None:
        """Have no such file, or none any more."""
        with self._changed:
            self._waiting.pop(path, None)
        with suppress(OSError):
            path.unlink(missing_ok=True)

    def waiting(self, name: str) -> Snapshot | Page | None:
        """Return what is not written yet."""
        with self._changed:
            job = self._waiting.get(self._folder / f"{name}{_STATE}")
        return None if job is None else job.what

    def failures(self) -> list[str]:
        """Return the names of the files that could not be written since this was last asked."""
        with self._changed:
            failures, self._failures = self._failures, []
        return failures

    def flush(self) -> None:
        """Wait until nothing waits."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting or not self._thread.is_alive())

    def finish(self) -> None:
        """Write what waits, and end."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while self._write_next():  # a call of its own, which keeps nothing of it in memory afterwards
            pass

    def _write_next(self) -> bool:
        job, failed = self._jobs.get(), False
        if job is None:
            return False
        try:
            if self._is_wanted(job):
                whole = {key: tensor.contiguous().cpu() for key, tensor in job.tensors.items()}
                with replacing(job.path) as draft, storing():
                    save_file(whole, draft, metadata=job.metadata)
        except Exception:  # noqa: BLE001 (a full disk, no memory: costs this file and no other)
            failed = True
        with self._changed:
            self.waiting_bytes -= job.nbytes
            wanted = self._waiting.get(job.path) is job
            if wanted:
                del self._waiting[job.path]
                if failed:
                    self._failures.append(job.name)
            dropped = not wanted and job.path not in self._waiting
            self._changed.notify_all()
        if dropped:
            with suppress(OSError):
                job.path.unlink(missing_ok=True)
        return True

    def _is_wanted(self, job: _Job) -> bool:
        with self._changed:
            return self._waiting.get(job.path) is job


def _age(path: Path) -> float:
    """Return when a file was last written or used; now if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()
