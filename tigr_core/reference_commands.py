# SPDX-License-Identifier: Apache-2.0
"""The commands for users of TIGR's reference implementation: ``tigr config convert`` and ``tigr import-weights``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tigr_core.errors import UserError
from tigr_core.files import write_atomically
from tigr_core.reference_config import read_reference
from tigr_core.reference_notes import keys_table, notes_table, to_native_yaml
from tigr_core.reference_weights import import_bundle, newest_iteration

config_app = typer.Typer(help="Configurations of TIGR's reference implementation.", no_args_is_help=True)


@config_app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="A JSON configuration of the reference implementation.")],
    output: Annotated[
        Path | None, typer.Option(metavar="YAML", help="Where to write; default: its name here, with .yaml.")
    ] = None,
) -> None:
    """Write a configuration of the reference as our YAML, with a comment on what became of each key."""
    reference = read_reference(file)
    text = to_native_yaml(reference)
    path = output or Path(f"{reference.name}.yaml")
    if path.exists():
        raise UserError(f"{path} exists", expected="a new file", fix="choose another name with --output")
    Console().print(notes_table(reference))
    write_atomically(path, lambda stream: stream.write(text.encode()))
    print(f"written  {path}")


@config_app.command()
def keys() -> None:
    """List all keys of the reference's configurations, and what becomes of each."""
    Console().print(keys_table())


def import_weights(
    folder: Annotated[Path, typer.Argument(help="A run folder of the reference, or its folder `weights`.")],
    iteration: Annotated[int | None, typer.Option(help="Which weights; default: the newest.")] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="TIGR", help="Where to write; default: itr_N.tigr in that folder.")
    ] = None,
) -> None:
    """Make a bundle of the reference's weights, and evaluate it on its tasks here."""
    chosen = newest_iteration(folder) if iteration is None else iteration
    bundle = import_bundle(folder, chosen)
    path = output or folder / f"itr_{chosen}.tigr"
    bundle.save(path)
    reached = bundle.info.source.evaluation
    print(f"here     train return {reached['train_return']:.1f}, test return {reached['test_return']:.1f}")
    print(f"bundle   {path}\nlook closer with:  tigr eval {path}")
