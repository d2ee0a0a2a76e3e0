"""Snapshots on disk, so that a story goes on at once after a restart.

A file is named by what its content follows from: format, model, space and every token up to its end, hashed
page by page. A full page of keys and values is a file that all snapshots behind it share; a snapshot's own
file holds its Mamba states, what its last page is filled with, and the name of the page before. Files appear
whole or not at all; one that is damaged is removed and counts as not there.
"""

from __future__ import annotations

import errno
import hashlib
import tempfile
import time
import weakref
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from os import utime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from spellbound.engine.cache import Ids, Snapshot
from spellbound.engine.disk_files import FORMAT, Header, Lost, look, read
from spellbound.engine.disk_hand import Hand, Job, Notices
from spellbound.engine.held import Held
from spellbound.errors import InputError
from spellbound.files import unwritable
from spellbound.jamba.sequence import PAGE, MambaRow, Page, SequenceState, page_shape

if TYPE_CHECKING:
    from hashlib import _Hash

    from spellbound.jamba import JambaForCausalLM

_STATE, _PAGE = ".state.safetensors", ".page.safetensors"
_STALE = 60.0  # seconds after which a draft, or a page that nothing refers to, has nobody who writes on
_WAITING_BYTES = 1 << 30  # that wait to be written; more is not taken unless nothing waits
_NOT_NOW = (OSError, RuntimeError, MemoryError)  # too many open files, no memory: may be read another time
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Disk:
    """A folder of snapshots of one model. Files are written by a thread of its own, in order."""

    def __init__(self, folder: Path, model: JambaForCausalLM, *, max_bytes: int = 8 * 2**30) -> None:
        """Use a folder, made if it is not there; other models' snapshots in it are left alone.

        InputError if nothing can be written there.
        """
        if max_bytes < 0:
            raise InputError(f"the story cache on disk was given {max_bytes} bytes; give 0 or more")
        self.max_bytes = max_bytes
        self.held: Held[str] = Held()
        """Files, those still to be written included."""
        self._ends: set[str] = set()
        """Snapshots where a text may end."""
        self._failures = dict.fromkeys(("read", "damaged", "gone", "refused"), 0)
        self._model = model
        self._root = hashlib.sha256(f"{FORMAT} {model.fingerprint()} {model.dtype}".encode()).hexdigest()[:32]
        self.folder = folder / self._root
        self._shared: weakref.WeakValueDictionary[str, Page] = weakref.WeakValueDictionary()
        self._notices = Notices(self.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=self.folder, buffering=0) as probe:
                probe.write(bytes(4096))
        except OSError as error:
            # What is on a full disk can still be read, and when something leaves there is room.
            if error.errno not in _FULL or not self.folder.is_dir():
                raise unwritable(self.folder, error) from error
            self._notices.unwritten(error)
        self._hand = Hand(self._notices)
        # At the end of the program, too: what waits is written then.
        self._end = weakref.finalize(self, self._hand.finish)

    @property
    def nbytes(self) -> int:
        """Of all files that are there or still to be written."""
        return self.held.nbytes - self._hand.lost_bytes

    @property
    def failures(self) -> dict[str, int]:
        """What went wrong so far, for any thread to ask.

        Files that could not be written (`write`) or, at the time, read (`read`); that were `damaged` and are
        removed, or `gone`; snapshots that were `refused` because too much waited.
        """
        return {"write": self._hand.failed, **self._failures}

    def __contains__(self, name: str) -> bool:
        """Say whether there is such a snapshot, as far as is known."""
        return name in self.held

    def has_logits(self, name: str) -> bool:
        """Whether a text may end where this snapshot does."""
        return name in self._ends

    # ---- what was there before

    def index(self) -> Iterator[tuple[str, Ids, str]]:
        """Yield space, tokens and name of each snapshot that is there, the longest unused ones first.

        What is damaged is removed, and what nothing refers to unless it is so new that another process may be
        about to.
        """
        headers, all_read = self._headers()
        pages = self._proven(header for header in headers if header.name.endswith(_PAGE))
        states = [header for header in headers if header.name.endswith(_STATE)]
        for state in sorted(states, key=lambda header: header.used):
            last = pages.get(state.page)
            if state.page and last is None:
                if all_read:
                    self._unlink_old(state)
            elif state.name != _end_name(self._behind(last, state), state.ids):
                self._damaged(state.name)
            else:
                parts = [state.ids]
                self.held.put(state.name, state.nbytes, state.page or None)
                if state.logits:
                    self._ends.add(state.name)
                while last is not None:
                    page = last.header
                    parts.append(page.ids)
                    self.held.put(page.name, page.nbytes, page.page or None)
                    last = pages.get(page.page)
                yield state.space, np.concatenate(parts[::-1]), state.name
        for header in headers:
            if all_read and header.name.endswith(_PAGE) and header.name not in self.held:
                self._unlink_old(header)

    def _headers(self) -> tuple[list[Header], bool]:
        """Return what the files say of themselves, and whether all could be asked."""
        headers, all_read = [], True
        for path in sorted(self.folder.iterdir()):
            try:
                if path.suffix == ".safetensors":
                    headers.append(look(path))
                elif path.suffix == ".tmp" and time.time() - path.stat().st_mtime > _STALE:
                    path.unlink()
            except Lost as lost:
                if lost.why == "damaged":
                    self._damaged(path.name)
            except FileNotFoundError:
                continue  # the draft of another process
            except _NOT_NOW as error:
                all_read = False
                self._unread(error)
        return headers, all_read

    def _proven(self, pages: Iterable[Header]) -> dict[str, _Proven]:
        """Return pages whose names follow from their tokens and all before; remove those whose do not."""
        behind: defaultdict[str, list[Header]] = defaultdict(list)
        for page in pages:
            behind[page.page].append(page)
        proven: dict[str, _Proven] = {}
        waiting = list(behind[""])
        for page in waiting:
            digest = self._behind(proven.get(page.page), page).copy()
            digest.update(_content(page.ids))
            if page.name != _name(digest, _PAGE) or len(page.ids) != PAGE:
                self._damaged(page.name)
                continue
            proven[page.name] = _Proven(page, digest)
            waiting += behind[page.name]
        return proven

    def _behind(self, last: _Proven | None, header: Header) -> _Hash:
        """Return what a name behind a page follows from. None fits behind a page of another space."""
        if last is None or last.header.space != header.space:
            return self._digest(header.space)
        return last.digest

    # ---- saving and loading

    def save(self, space: str, ids: Ids, snapshot: Snapshot) -> str:
        """Have a snapshot written, and those of its pages that are not there.

        Return its name, or nothing if too much waits already; `failures` counts those.
        """
        self._note_failures()
        *whole, name = self._names(space, ids)
        # Not what is known alone: another process with the same folder may have removed it.
        missing = [number for number, page in enumerate(whole) if not self._is_there(page)]
        if not missing and self._is_there(name) and (name in self._ends or snapshot.logits_V is None):
            return name
        if self._hand.waiting_bytes > _WAITING_BYTES or not self._end.alive:
            self._failures["refused"] += 1
            return name if name in self.held else ""
        state = snapshot.state
        for number in missing:
            page = self._shared[whole[number]] = state.pages[number]
            own = torch.from_numpy(ids[number * PAGE : (number + 1) * PAGE].copy())
            before = whole[number - 1] if number else ""
            self._put(whole[number], before, space, {"numbers": page.numbers, "ids": own}, page)
        tensors = {"ids": torch.from_numpy(ids[len(whole) * PAGE :].copy())}
        if inside := state.length % PAGE:
            tensors["tail"] = state.pages[-1].numbers[:, :, :, :inside]
        self._ends.discard(name)
        if snapshot.logits_V is not None:
            tensors["logits"] = snapshot.logits_V
            self._ends.add(name)
        for layer, row in enumerate(state.mamba):
            tensors[f"window.{layer}"], tensors[f"ssm.{layer}"] = row.tensors()
        self._put(name, whole[-1] if whole else "", space, tensors, snapshot)
        return name

    def load(self, name: str) -> Snapshot | None:
        """Return a snapshot, pages shared with others that are in memory; None if there is none to be had.

        It is still known afterwards if that may pass.
        """
        self._note_failures()
        if name not in self.held:
            return None
        waiting = self._hand.waiting(self.folder / name)
        if isinstance(waiting, Snapshot):
            return waiting
        try:
            pages = self._pages(self.held.before(name))
            snapshot = self._snapshot(read(self.folder / name), pages)
        except Lost as lost:
            self._failures[lost.why] += 1
            if lost.why == "damaged":
                self._notices.damaged(lost.name)
            self._lose(lost.name)
            return None
        except _NOT_NOW as error:
            self._unread(error)
            return None
        with suppress(OSError):
            utime(self.folder / name)  # used: it counts as newer after a restart
        return snapshot

    def remove(self, name: str) -> None:
        """Take a snapshot away, and the pages that nobody else needs."""
        self._drop(self.held.remove(name))

    def flush(self) -> None:
        """Wait until everything is written that was to be."""
        self._hand.flush()

    def close(self) -> None:
        """Write what waits, and take no more."""
        self._end()

    def _snapshot(self, stored: dict[str, Tensor], pages: list[Page]) -> Snapshot:
        """Make a snapshot of the tensors of its file and the full pages before."""
        device, tail = self._model.device, len(stored["ids"])
        rows = [
            (stored[f"window.{n}"], stored[f"ssm.{n}"]) for n in range(len(stored)) if f"ssm.{n}" in stored
        ]
        mamba = [MambaRow(window.to(device), ssm.to(device), 0) for window, ssm in rows]
        state = SequenceState(self._model, mamba, len(pages) * PAGE + tail)
        if tail:
            page = torch.empty(page_shape(self._model), dtype=self._model.dtype, device=device)
            page[:, :, :, :tail] = stored["tail"].to(device)
            pages = [*pages, Page(page, pages[-1] if pages else None, tail)]
        state.hold(pages)
        return Snapshot(state, stored.get("logits"))

    def _pages(self, last: str | None) -> list[Page]:
        """Return a full page and all before it, first ones first; from memory what somebody holds."""
        names, shared = [], None
        while last is not None and (shared := self._shared.get(last)) is None:
            names.append(last)
            last = self.held.before(last)
        pages = []
        while shared is not None:
            pages.append(shared)
            shared = shared.before
        pages.reverse()
        for name in reversed(names):
            numbers = read(self.folder / name)["numbers"].to(self._model.device)
            page = self._shared[name] = Page(numbers, pages[-1] if pages else None, PAGE)
            pages.append(page)
        return pages

    # ---- names

    def _digest(self, space: str) -> _Hash:
        return hashlib.sha256(f"{self._root} {space}".encode())

    def _names(self, space: str, ids: Ids) -> list[str]:
        """Return the names of the full pages and of the snapshot at the end."""
        digest, names, whole = self._digest(space), [], len(ids) // PAGE
        for number in range(whole):
            digest.update(_content(ids[number * PAGE : (number + 1) * PAGE]))
            names.append(_name(digest, _PAGE))
        return [*names, _end_name(digest, ids[whole * PAGE :])]

    # ---- files

    def _put(
        self, name: str, before: str, space: str, tensors: dict[str, Tensor], what: Snapshot | Page
    ) -> None:
        job = Job(self.folder / name, tensors, {"page": before, "space": space}, what)
        self.held.put(name, job.nbytes, before or None)
        self._hand.put(job)

    def _is_there(self, name: str) -> bool:
        """Whether a file is there, or will be."""
        path = self.folder / name
        if name not in self.held or self._hand.waiting(path) is not None:
            return name in self.held
        try:
            return path.exists()
        except OSError as error:  # not to be looked at now
            self._unread(error)
            return True

    def _drop(self, names: list[str]) -> None:
        for name in names:
            self._ends.discard(name)
            self._hand.drop(self.folder / name)

    def _lose(self, name: str) -> None:
        """Forget a file and what stands on it: when it comes again, it is written."""
        self._drop([name, *self.held.remove_all(name)])

    def _note_failures(self) -> None:
        for name in self._hand.failures():
            self._lose(name)

    def _unread(self, error: OSError | RuntimeError | MemoryError) -> None:
        self._failures["read"] += 1
        self._notices.unread(error)

    def _damaged(self, name: str) -> None:
        """Remove a file that was never counted."""
        self._failures["damaged"] += 1
        self._notices.damaged(name)
        with suppress(OSError):
            (self.folder / name).unlink(missing_ok=True)

    def _unlink_old(self, header: Header) -> None:
        if time.time() - header.used > _STALE:
            with suppress(OSError):
                (self.folder / header.name).unlink(missing_ok=True)


class _Proven(NamedTuple):
    """A page whose name follows from its tokens, and what the names behind it follow from."""

    header: Header
    digest: _Hash


def _content(ids: Ids) -> bytes:
    return ids.astype("<i4").tobytes()


def _name(digest: _Hash, ending: str) -> str:
    return digest.hexdigest()[:32] + ending


def _end_name(digest: _Hash, ids: Ids) -> str:
    """Return the name of a snapshot so many tokens behind a page."""
    end = digest.copy()
    end.update(b"end" + _content(ids))
    return _name(end, _STATE)
