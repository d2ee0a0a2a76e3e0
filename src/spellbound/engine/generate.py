"""Many requests on one model: they join and leave between steps, and each step reads the weights once.

A step takes one token of every text that is being written, and pieces of prompts that are still being read:
as many as keep the writing fluent, prompts in turn. Of prompts that begin alike one is read, and the others
wait for it to come to where they part. Shapes: V vocabulary.
"""

from __future__ import annotations

import atexit
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Condition, Lock, Thread, current_thread
from time import perf_counter

import numpy as np
from torch import Tensor

from spellbound.engine.cache import Ids, Snapshot, StoryCache
from spellbound.engine.requests import FinishReason, Generation, Request, Ticket
from spellbound.engine.streams import Lead, Stream
from spellbound.errors import EngineBusy, EnvironmentFault, ModelError
from spellbound.jamba import JambaForCausalLM, Piece, read_together
from spellbound.jamba.lora import AdapterSet, read_adapter

_CHUNK_ON_CPU, _CHUNK_ELSEWHERE = 512, 2048
_SHARE_BESIDE = 4  # while others write, prompts get so much less of a step


class Engine:
    """A model, the requests it works on, and what it has read before. For any number of threads.

    Its own thread begins with the first request and ends with :meth:`close`, or with the program.
    """

    def __init__(
        self,
        model: JambaForCausalLM,
        *,
        cache: StoryCache | None = None,
        chunk: int | None = None,
        max_streams: int = 64,
        max_waiting: int = 1024,
    ) -> None:
        """Write with `model`, keep states in `cache`.

        `chunk`: prompt tokens a step reads (512 on a CPU, 2,048 on a GPU) · `max_streams`: requests worked on
        at once, further ones wait · `max_waiting`: how many may; the next one is refused with EngineBusy.
        """
        for name, value in (("chunk", chunk), ("max_streams", max_streams), ("max_waiting", max_waiting)):
            if value is not None and value < 1:
                raise ModelError(f"{name} is {value}; give 1 or more")
        self.model = model.eval()
        self.cache = StoryCache() if cache is None else cache
        on_cpu = model.device.type == "cpu"
        self.chunk = chunk or (_CHUNK_ON_CPU if on_cpu else _CHUNK_ELSEWHERE)
        self.max_streams, self.max_waiting = max_streams, max_waiting
        self._adapters, self._model_lock = AdapterSet(self.model), Lock()
        self.steps = 0
        """Taken so far."""
        self.unkept = 0
        """Snapshots that could not be made, mostly for want of memory."""
        self._changed = Condition()
        self._waiting: deque[Ticket] = deque()
        self._running: list[Stream] = []
        self._entering: list[Ticket] = []
        self._closed = False
        self._thread: Thread | None = None

    def generate(self, request: Request, cancelled: Callable[[], bool] = lambda: False) -> Generation:
        """Check the request and return its tokens, computed from the moment the first one is asked for.

        `cancelled` is asked while the reader waits for tokens.
        """
        ticket = Ticket(request)
        self.check(ticket)
        return Generation(self, ticket, cancelled)

    @property
    def adapters(self) -> list[str]:
        """Names of the adapters that requests may ask for."""
        return self._adapters.names

    def add_adapter(self, name: str, folder: Path) -> None:
        """Read an adapter, of which requests that come from now on are written; others wait meanwhile.

        ModelError if it does not fit the model, EngineBusy if requests of one of that name are being written.
        """
        self._require_unused(name)
        adapter = read_adapter(folder)
        with self._model_lock:
            taken = self._adapters.take(adapter)
            with self._changed:  # from here to the exchange nobody comes in who would be of both
                self._require_unused(name)
                self._adapters.put(name, taken)

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; ModelError if there is none, EngineBusy if requests of it are being written."""
        self._require_unused(name)
        with self._model_lock, self._changed:
            self._require_unused(name)
            self._adapters.remove(name)

    @property
    def load(self) -> tuple[int, int]:
        """Requests that are worked on, and that wait."""
        with self._changed:
            return len(self._running), len(self._waiting)

    @property
    def closed(self) -> bool:
        """Whether it takes no more requests."""
        return self._closed

    def is_here(self) -> bool:
        """Say whether this is called on the engine's own thread."""
        return current_thread() is self._thread

    def enter(self, ticket: Ticket) -> None:
        """Let a request wait for its turn. EngineBusy if too many do, EnvironmentFault after the end."""
        with self._changed:
            if self._closed:
                raise EnvironmentFault("the engine is closed; make another one")
            free = max(0, self.max_streams - len(self._running))
            if len(self._waiting) >= self.max_waiting + free:
                raise EngineBusy(f"{len(self._waiting)} requests are waiting already; try again later")
            if self._thread is None:
                here = weakref.ref(self)
                thread = Thread(target=_work, args=(here,), name="spellbound-engine", daemon=True)
                thread.start()
                self._thread = thread
                atexit.register(_close, here)
            ticket.entered = perf_counter()
            self._waiting.append(ticket)
            self._changed.notify_all()

    def close(self) -> None:
        """End every request where it is, and wait until what belongs on disk is there."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self.is_here():
            return  # the thread ends after this step
        if self._thread is not None:
            self._thread.join()
        self.cache.flush()

    # ---- on the engine's thread

    def _wait(self) -> bool:
        """Wait a while for something to do; return whether there is to be more of it."""
        with self._changed:
            if not (self._waiting or self._running or self._closed):
                self._changed.wait(timeout=1.0)
            return not self._closed

    def _finish_all(self, error: BaseException | None = None) -> None:
        """Let nobody wait for an engine that has ended."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = [*self._entering, *self._waiting], deque()
        for stream in self._running:
            self._leave(stream, "cancelled", error)
        self._running = []
        for ticket in waiting:
            ticket.end("cancelled", error)
        with self._model_lock:  # the model is as it came, for whoever uses it next
            self._adapters.wear(None)

    def _step(self) -> None:
        """Admit, drop who left, read one batch, choose the next tokens."""
        self._admit()
        for stream in self._running:
            if stream.left:
                continue
            if reason := stream.ticket.ends():
                self._leave(stream, reason)
            elif stream.lead is not None and stream.lead.over:
                self._go_on(stream, stream.lead)
        self._running = [stream for stream in self._running if not stream.left]
        batch = self._batch()
        if not batch:
            return
        self.steps += 1
        for adapter in dict.fromkeys(stream.request.adapter for stream, _ in batch):
            same = [(stream, piece) for stream, piece in batch if stream.request.adapter == adapter]
            try:
                found = self._read(adapter, [piece for _, piece in same])
            except Exception as error:  # noqa: BLE001 (goes to the readers; the thread has to go on)
                for stream, _ in same:
                    self._leave(stream, "cancelled", error)
            else:
                for (stream, piece), logits_V in zip(same, found, strict=True):
                    self._after(stream, len(piece.ids), logits_V)
        # Whoever read a piece of a prompt goes behind the others that read.
        read = {id(stream) for stream, piece in batch if not stream.writing or len(piece.ids) > 1}
        here = (stream for stream in self._running if not stream.left)
        self._running = sorted(here, key=lambda stream: id(stream) in read)

    def _admit(self) -> None:
        """Let those in whose turn it is, and those go who waited for too long or no more."""
        with self._changed:
            waiting = [(each, each.ends()) for each in self._waiting]
            turn = [each for each, reason in waiting if not reason][: self.max_streams - len(self._running)]
            # From here on they are counted among those that run: their adapter may not be replaced.
            self._entering = turn
            self._waiting = deque(each for each, reason in waiting if not reason and each not in turn)
        for ticket, reason in waiting:
            if reason:
                ticket.end(reason)
        for ticket in turn:
            try:
                stream = Stream(ticket, self.model, self.cache, self.space_of(ticket.request))
                stream.follow(self._running)
            except Exception as error:  # noqa: BLE001 (goes to the reader)
                ticket.end("cancelled", error)
                continue
            self._running = [*self._running, stream]
            if stream.writing:
                self._choose(stream)
        self._entering = []

    def _go_on(self, stream: Stream, lead: Lead) -> None:
        """Take up what another has read of a stream's prompt; what it has not, perhaps a third one reads."""
        try:
            stream.look_up()
        except Exception as error:  # noqa: BLE001 (goes to the reader)
            self._leave(stream, "cancelled", error)
            return
        if lead.stream.left or stream.at >= lead.until:  # else there was no room for the state: not once more
            stream.follow(self._running)
        if stream.writing:
            self._choose(stream)

    def _batch(self) -> list[tuple[Stream, Piece]]:
        """Return one token of each text that is written, and of prompts as much as there is room for."""
        writing = [stream for stream in self._running if stream.writing]
        batch = [(stream, Piece([stream.written[-1]], stream.state)) for stream in writing]
        room = max(1, self.chunk // _SHARE_BESIDE if writing else self.chunk)
        for stream in self._running:
            if stream.reading and room > 0:
                begin, end = stream.at, min(stream.mark(), stream.at + room)
                ids = stream.prompt[begin:end].tolist()
                batch.append((stream, Piece(ids, stream.state, wanted=stream.wants_logits(end))))
                room -= end - begin
        return batch

    def _read(self, adapter: str | None, pieces: list[Piece]) -> list[Tensor | None]:
        with self._model_lock:
            self._adapters.wear(adapter)
            return read_together(self.model, pieces)

    def _after(self, stream: Stream, count: int, logits_V: Tensor | None) -> None:
        """Take the logits behind what was read: keep the state, choose the next token."""
        if stream.writing:
            stream.fed += 1
        else:
            at_mark = stream.read(count)
            if at_mark:
                self._keep(stream, stream.prompt[: stream.at], logits_V)
            if stream.at < len(stream.prompt):
                return
            stream.begin_writing()
        stream.logits_V = None if logits_V is None else logits_V.float().cpu()
        self._choose(stream)

    def _choose(self, stream: Stream) -> None:
        try:
            reason = stream.choose()
        except BaseException as error:  # noqa: BLE001 (of constraint, writer or sampler; goes to the reader)
            self._leave(stream, "cancelled", error)
            return
        if reason is not None:
            self._leave(stream, reason)

    def _keep(self, stream: Stream, ids: Ids, logits_V: Tensor | None) -> None:
        """Put the stream's state into the cache; without memory for it the text goes on without."""
        try:
            # A copy of its own: a row would hold all rows of its batch in memory.
            logits_V = None if logits_V is None else logits_V.float().cpu().clone()
            self.cache.put(ids, Snapshot(stream.state.alone(), logits_V), stream.space)
        except Exception:  # noqa: BLE001 (what is not kept has to be read again, no more)
            self.unkept += 1

    def _leave(self, stream: Stream, reason: FinishReason, error: BaseException | None = None) -> None:
        """Keep the state at the end of what was written, and let the reader go."""
        stream.left = True
        stream.stop_clock()
        try:
            if error is None and stream.fed:
                ids = np.concatenate([stream.prompt, np.asarray(stream.written[: stream.fed], np.int32)])
                # The logits behind the last token that was read, whether or not one was chosen from them.
                self._keep(stream, ids, stream.logits_V)
        finally:
            stream.ticket.end(reason, error)

    def space_of(self, request: Request) -> str:
        """Return what of the story cache a request may see: its user's, with its adapter's very numbers."""
        return f"{self._adapters.content(request.adapter)} {request.space}"

    def _require_unused(self, name: str) -> None:
        with self._changed:
            running = [each.ticket for each in self._running if not each.left]
            asked = [*running, *self._entering, *self._waiting]
        if used := sum(ticket.request.adapter == name for ticket in asked):
            raise EngineBusy(
                f"{used} requests of the adapter {name!r} are being written; wait until they end"
            )

    def check(self, ticket: Ticket) -> None:
        """Refuse what the model would otherwise fail on deep inside."""
        prompt, request = ticket.prompt, ticket.request
        self._adapters.content(request.adapter)  # has to be there
        if not len(prompt):
            raise ModelError("the prompt has no tokens; give at least the start token")
        size = self.model.config.vocab_size
        if prompt.min() < 0 or prompt.max() >= size:
            wrong = np.flatnonzero((prompt < 0) | (prompt >= size))
            raise ModelError(
                f"token {prompt[wrong[0]]} at place {wrong[0]} of the prompt is not in the vocabulary of"
                f" {size}; use the tokenizer that belongs to the model"
            )
        for place in request.boundaries:
            if not isinstance(place, int | np.integer):
                raise ModelError(
                    f"boundary {place!r} of the prompt is no place; give whole numbers of tokens"
                )
        unknown = sorted(token for token in request.stop_ids if not 0 <= token < size)
        if unknown:
            raise ModelError(f"stop token {unknown[0]} is not in the vocabulary of {size}")
        length, limit = len(prompt), self.model.config.max_position_embeddings
        if length >= limit:
            raise ModelError(
                f"the prompt has {length} tokens and the model reads fewer than {limit};"
                " shorten the past story"
            )


def _work(engine: weakref.ref[Engine]) -> None:
    """Take steps as long as the engine is there and open; whatever ends it, nobody waits for it any more."""
    error: BaseException | None = None
    try:
        while (here := engine()) is not None and here._wait():
            here._step()
            del here
    except BaseException as failure:  # noqa: BLE001 (there is nobody above; goes to the readers)
        error = failure
    finally:
        if (here := engine()) is not None:
            here._finish_all(error)


def _close(engine: weakref.ref[Engine]) -> None:
    if (here := engine()) is not None:
        here.close()
