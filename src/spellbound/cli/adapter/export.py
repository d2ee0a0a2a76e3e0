"""`spellbound adapter export`: for llama.cpp, or for PEFT as it is today."""

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="GGUF file, or new folder for a PEFT adapter.")
    ],
    to: Annotated[Literal["gguf", "peft"], typer.Option(help="What for: llama.cpp, or PEFT.")],
    adapter: Annotated[
        Path | None, typer.Argument(metavar="[ADAPTER]", help="Folder of an adapter; none: the model alone.")
    ] = None,
    model: Annotated[str, typer.Option(help="nano, or the folder of the Jamba it is for.")] = "nano",
    quantization: Annotated[
        str, typer.Option("--type", help="Of the numbers in a GGUF file: F32, F16 or Q8_0.")
    ] = "F16",
) -> None:
    """Write a model with its adapter merged as GGUF, or an adapter anew in the format of PEFT."""
    from spellbound.errors import InputError

    if to == "gguf":
        _gguf(output, adapter, model, quantization)
    elif adapter is None:
        raise InputError("--to peft exports an adapter and none was given; give its folder")
    else:
        _peft(output, adapter, model)


def _gguf(output: Path, adapter: Path | None, model: str, quantization: str) -> None:
    from spellbound.cli.adapter.base import open_base, put_on
    from spellbound.cli.files import require_writable
    from spellbound.jamba.lora import merge_adapter
    from spellbound.train.export import export_gguf
    from spellbound.train.gguf_file import gguf_package, require_quantization

    require_quantization(quantization)
    require_writable(output)
    gguf_package()
    folder, base = open_base(model)
    if adapter is not None:
        put_on(base, adapter)
        merge_adapter(base)
    vocabulary = export_gguf(base, folder, output, quantization=quantization, name=folder.name)
    if vocabulary is None:
        words = "without a tokenizer, for there is none beside the model"
    elif vocabulary.exact:
        words = "with its tokenizer"
    else:
        words = (
            f"with its tokenizer; llama.cpp cuts text its own way ({vocabulary.cut}), so here and there it"
            " tokenises otherwise"
        )
    typer.echo(f"{output}: {quantization}, {output.stat().st_size:,} bytes, {words}")


def _peft(output: Path, adapter: Path, model: str) -> None:
    from spellbound.cli.adapter.base import open_base
    from spellbound.jamba.lora import adapter_parameters
    from spellbound.jamba.lora.folder import read_adapter
    from spellbound.train.export import export_adapter, require_new_folder

    require_new_folder(output)
    read_adapter(adapter)  # before the model takes its time
    folder, base = open_base(model)
    export_adapter(base, adapter, output, base_name=str(folder))
    typer.echo(f"{output}: {len(adapter_parameters(base))} tensors for PEFT")
