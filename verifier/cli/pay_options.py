"""The options and arguments that several of `opgate pay`'s commands share, with the words that explain them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[Path, typer.Option(envvar="OPGATE_HOME", help="Where opgate keeps its state.")]
Rpc = Annotated[str, typer.Option(envvar="OPGATE_RPC_URL", help="JSON-RPC of the chain; by default opgate dev's.")]
PolicyFile = Annotated[
    Path | None, typer.Option(envvar="OPGATE_POLICY", help="Your policy; by default HOME/payer/policy.toml.")
]
KeyFile = Annotated[
    Path | None,
    typer.Option(
        "--key",
        envvar="OPGATE_KEYFILE",
        help="Where your key is: a file or an encrypted keystore, env:NAME, command:PROGRAM, or a signer's URL; "
        "by default HOME/payer/keys/payer.",
    ),
]
Circuits = Annotated[Path | None, typer.Option(help="Circuits that you hold; by default HOME/payer/circuits.")]
ProviderUrl = Annotated[str, typer.Option("--provider", envvar="OPGATE_PROVIDER_URL", help="The provider's URL.")]
CircuitName = Annotated[str, typer.Option("--circuit", help="The circuit's id, or its beginning.")]
InputFile = Annotated[Path, typer.Option("--input", exists=True, help='Numbers: {"input_data": [[…], …]}.')]
Seconds = Annotated[int, typer.Option(help="From now to the deadline; 0 is what the provider asks for.")]
Margin = Annotated[int, typer.Option(help="Seconds before the deadline in which no release is signed.")]
Confirmations = Annotated[
    int,
    typer.Option(help="Blocks that must stand on top of a funding before a release, and of a close before its entry."),
]
SecondRpc = Annotated[
    str, typer.Option(envvar="OPGATE_SECOND_RPC_URL", help="Another's node of the same chain; both must say the same.")
]
MaxFee = Annotated[
    int, typer.Option(envvar="OPGATE_MAX_FEE", help="The dearest max fee per gas, in wei; 0 is 500 gwei.", min=0)
]
Finalized = Annotated[
    bool, typer.Option(help="Our transactions are final by the chain's finalized block, not by 12 blocks.")
]
JobName = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or its beginning.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
