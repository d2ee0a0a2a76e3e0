"""What `spellbound serve` does: take the address, load the model or find its server, serve, end."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from spellbound.errors import InputError
from spellbound.files import words_of
from spellbound.server.app import create_app
from spellbound.server.offers import require_adapter_name, require_name
from spellbound.server.run import listen, serve
from spellbound.server.settings import ServeSettings
from spellbound.story import ServerSettings, Upstream, find_model
from spellbound.story.adapter_folder import CONFIG, AdapterFolder
from spellbound.story.completion import Completer, EngineSettings


class Model(Completer, Protocol):
    """What is served."""

    def close(self) -> None:
        """End what is being written; what is to be kept is kept."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A model, what it is called, and what looks after its adapters."""

    name: str
    model: Model
    refresh: Callable[[], list[str]] | None = None


Load = Callable[[], Loaded]


class Source(Protocol):
    """Where the model is."""

    def checked(self) -> Load:
        """Refuse what is wrong with the options; return what gets the model."""


@dataclass(frozen=True, kw_only=True)
class Here:
    """A model in this process."""

    model: str
    name: str | None
    adapters: Path | None
    device: str
    dtype: str
    engine: EngineSettings

    def checked(self) -> Load:
        """Look whether model and adapters are there."""
        folder = find_model(self.model)
        name = require_name(self.name or folder.resolve().name)
        if self.adapters is not None:
            _require_around_adapters(self.adapters)
        return partial(self._load, name, folder)

    def _load(self, name: str, folder: Path) -> Loaded:
        # The long silence of the imports is in here.
        from transformers.utils import logging as quiet

        from spellbound.story.local import LocalGenerator

        quiet.disable_progress_bar()
        quiet.set_verbosity_error()
        made = LocalGenerator(folder, device=self.device, dtype=self.dtype, settings=self.engine)
        if self.adapters is None:
            return Loaded(name=name, model=made)
        beside = AdapterFolder(self.adapters, made.engine, require_adapter_name)
        # Twice: what is wrong is said when it is still so at the second look.
        if faults := beside.refresh() or beside.refresh():
            made.close()
            raise InputError(faults[0])
        return Loaded(name=name, model=made, refresh=beside.refresh)


@dataclass(frozen=True, kw_only=True)
class Behind:
    """A model of another server."""

    server: ServerSettings
    name: str | None
    tokenizer: Path | None
    max_streams: int
    max_waiting: int

    def checked(self) -> Load:
        """Look whether its name can be one here; the server itself is asked when it is loaded."""
        if self.name:
            name: str | None = require_name(self.name)
        else:
            name = _name_here(self.server.model) if self.server.model else None
        return partial(self._load, name)

    def _load(self, name: str | None) -> Loaded:
        made = Upstream(
            self.server,
            tokenizer=self.tokenizer,
            max_streams=self.max_streams,
            max_waiting=self.max_waiting,
        )
        return Loaded(name=name or _name_here(made.model), model=made)


def serve_site(source: Source, settings: ServeSettings, say: Callable[[str], None]) -> None:
    """Serve until a signal to end; `say` is told what can be asked for, and where."""
    load = source.checked()
    sock = listen(settings)
    try:
        loaded = load()
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        try:
            app = create_app({loaded.name: loaded.model}, settings, loaded.refresh)
            serve(app, settings, sock, lambda url: say(_ready(url, app.state.service.offers.names, settings)))
        finally:
            loaded.model.close()
    finally:
        sock.close()


def _require_around_adapters(folder: Path) -> None:
    """Refuse what cannot be the folder that adapters are put into; there need not be any yet."""
    try:
        names = [each.name for each in folder.iterdir()]
    except OSError as error:
        raise InputError(f"{folder}: {words_of(error)}; give the folder that holds the adapters") from error
    if CONFIG in names:
        raise InputError(f"{folder}: is an adapter itself; give the folder around it")


def _name_here(model: str) -> str:
    """Return what a server's model is called here: as there, without whose it is."""
    try:
        return require_name(model.rpartition("/")[2])
    except InputError:
        raise InputError(
            f"{model!r:.80}, as the upstream calls its model, is no name here; give another with --name NAME"
        ) from None


def _ready(url: str, names: list[str], settings: ServeSettings) -> str:
    key = "with its key" if settings.key else "without a key"
    return f"{', '.join(names)} at {url}/v1, {key}; Ctrl-C ends it"
