"""What `spellbound serve` does: take the address, load the model, serve, keep the cache."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from spellbound.errors import InputError
from spellbound.files import words_of
from spellbound.server.app import create_app
from spellbound.server.offers import require_name
from spellbound.server.run import listen, serve
from spellbound.server.settings import ServeSettings
from spellbound.story import find_model
from spellbound.story.completion import EngineSettings


@dataclass(frozen=True, kw_only=True)
class Site:
    """The model to serve."""

    model: str
    name: str | None
    adapters: Path | None
    device: str
    dtype: str
    engine: EngineSettings


def serve_site(site: Site, settings: ServeSettings, say: Callable[[str], None]) -> None:
    """Serve until a signal to end; `say` is told what can be asked for, and where."""
    folder = find_model(site.model)
    name = require_name(site.name or folder.resolve().name)
    adapters = adapters_in(site.adapters) if site.adapters is not None else {}
    sock = listen(settings)
    try:
        # The long silence of the imports is in here; what is wrong with the options was said before.
        from transformers.utils import logging as quiet

        from spellbound.story.local import LocalGenerator

        quiet.disable_progress_bar()
        quiet.set_verbosity_error()
        generator = LocalGenerator(
            folder,
            adapters=adapters,
            device=site.device,
            dtype=site.dtype,
            settings=site.engine,
        )
        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
        try:
            app = create_app({name: generator}, settings)
            serve(app, settings, sock, lambda url: say(_ready(url, app.state.service.offers.names, settings)))
        finally:
            generator.close()
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


def _ready(url: str, names: list[str], settings: ServeSettings) -> str:
    key = "with its key" if settings.key else "without a key"
    return f"{', '.join(names)} at {url}/v1, {key}; Ctrl-C ends it"
