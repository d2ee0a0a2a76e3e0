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
from spellbound.server.offers import require_name
from spellbound.server.run import listen, serve
from spellbound.server.settings import ServeSettings
from spellbound.story import ServerSettings, Upstream, find_model
from spellbound.story.completion import Completer, EngineSettings


class Model(Completer, Protocol):
    """What is served."""

    def close(self) -> None:
        """End what is being written; what is to be kept is kept."""


Load = Callable[[], tuple[str, Model]]


class Source(Protocol):
    """Where the model is."""

    def checked(self) -> Load:
        """Refuse what is wrong with the options; return what gets the model, and its name."""


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
        adapters = adapters_in(self.adapters) if self.adapters is not None else {}
        return partial(self._load, name, folder, adapters)

    def _load(self, name: str, folder: Path, adapters: dict[str, Path]) -> tuple[str, Model]:
        # The long silence of the imports is in here.
        from transformers.utils import logging as quiet

        from spellbound.story.local import LocalGenerator

        quiet.disable_progress_bar()
        quiet.set_verbosity_error()
        made = LocalGenerator(
            folder, adapters=adapters, device=self.device, dtype=self.dtype, settings=self.engine
        )
        return name, made


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

    def _load(self, name: str | None) -> tuple[str, Model]:
        made = Upstream(
            self.server,
            tokenizer=self.tokenizer,
            max_streams=self.max_streams,
            max_waiting=self.max_waiting,
        )
        return name or _name_here(made.model), made


def serve_site(source: Source, settings: ServeSettings, say: Callable[[str], None]) -> None:
    """Serve until a signal to end; `say` is told what can be asked for, and where."""
    load = source.checked()
    sock = listen(settings)
    try:
        name, model = load()
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        try:
            app = create_app({name: model}, settings)
            serve(app, settings, sock, lambda url: say(_ready(url, app.state.service.offers.names, settings)))
        finally:
            model.close()
    finally:
        sock.close()


def adapters_in(folder: Path) -> dict[str, Path]:
    """Return the adapters in a folder by their own folders' names; InputError if there are none."""
    try:
        found = sorted(each for each in folder.iterdir() if (each / "adapter_config.json").is_file())
    except OSError as error:
        raise InputError(f"{folder}: {words_of(error)}; give the folder that holds the adapters") from error
    if not found:
        raise InputError(f"{folder}: holds no folder with an adapter_config.json; give the one around them")
    return {require_name(each.name): each for each in found}


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
