"""`opgate circuit build` and `bench`: make a circuit, and measure what this machine needs for one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from circuits import registry
from circuits.cli.options import HOME, AsJson, Home, KeyFile, Threads, machine_file, print_json, steps, store_of
from circuits.cli.show import print_cost, print_fidelity, print_manifest
from verifier.errors import UsageError
from verifier.statement import canonical
from verifier.statement.certificates import CircuitAttestation
from verifier.statement.scalars import Text, Timestamp

if TYPE_CHECKING:
    from circuits.build import Built
    from circuits.tuner.bench import Fit
    from circuits.tuner.cost import Machine
    from circuits.tuner.search import Candidate

_SHOWN = 12


def build_command(
    model: Annotated[Path, typer.Argument(exists=True, help="The ONNX file.")],
    data: Annotated[Path, typer.Option(exists=True, help="Samples: EZKL's input.json, .npz or .csv.")],
    *,
    owner_key: KeyFile = None,
    name: Annotated[str, typer.Option(help="What the model is called in your attestation.")] = "",
    closed: Annotated[
        bool, typer.Option("--closed", help="Keep the ONNX file private: nobody else can rebuild.")
    ] = False,
    inputs: Annotated[
        Literal["public", "hashed"],
        typer.Option(help="Whether a proof shows the inputs, or only their hash with a random blind."),
    ] = "public",
    target: Annotated[
        Literal["closable", "offchain"],
        typer.Option(help="closable: a chain can hold the verifier. offchain: cheaper, but cannot be sold."),
    ] = "closable",
    fidelity: Annotated[
        str,
        typer.Option(
            help="Largest error as a share of the outputs' span; auto: 0.001, else 0.01; ezkl: as EZKL's own."
        ),
    ] = "auto",
    max_seconds: Annotated[float, typer.Option(min=1, help="End the search then, with the best so far.")] = 600.0,
    plot: Annotated[
        Path | None, typer.Option(help="Write a picture of what was tried, EZKL's own choice in it.")
    ] = None,
    threads: Threads = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The folder of circuits; by default owner/circuits of the home.")
    ] = None,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Make a circuit of a model: search, compile, compare with the model, prove once, write manifest and code.

    The search looks for the least scales that are faithful enough, then for the cheapest layout that a chain can check.
    Ctrl-C ends it with the best so far, and the next build goes on from there. Every second sample is kept from it and
    scores the result. With --owner-key the fidelity certificate, the cost record and your attestation are signed.
    """
    from circuits.build import Wishes, build  # noqa: PLC0415 - the same
    from circuits.check.gate import require_yes  # noqa: PLC0415 - the same
    from circuits.ezkl_runner import Limits  # noqa: PLC0415 - the same
    from circuits.tuner.cost import read_machine  # noqa: PLC0415 - numpy and onnxruntime only where a circuit is built
    from verifier.payment.keys import load_key  # noqa: PLC0415 - eth_account only where something is signed

    key = load_key(owner_key) if owner_key else None
    called = _text(name or model.stem)
    wishes = Wishes(
        inputs=inputs, target=target, shares=_shares(fidelity), max_seconds=max_seconds, compare_ezkl=plot is not None
    )
    machine = read_machine(machine_file(home))
    with steps(as_json=as_json) as progress:
        require_yes(model, data, progress)
        built = build(
            model,
            data,
            store=out or store_of(home),
            srs_store=home / "srs",
            wishes=wishes,
            machine=machine,
            cache=home / "cache" / "search",
            is_open=not closed,
            limits=Limits(threads=threads) if threads else None,
            progress=progress,
        )
        if key is not None:
            manifest = built.compiled.manifest
            attestation = CircuitAttestation(
                circuit_id=manifest.circuit_id,
                model=called,
                code_hash=manifest.evm.code_hash,
                attested_at=Timestamp(int(time.time())),
            )
            for record in (built.certificate, built.cost, attestation):
                registry.add_record(built.folder, record, key)
        if plot is not None:
            from circuits.tuner import plot as picture  # noqa: PLC0415 - matplotlib only where it is asked for

            picture.draw(plot, built.found.candidates, _chosen(built), built.baseline, machine)
    if as_json:
        print_json(_as_json(built, machine))
        return
    console = Console(highlight=False, soft_wrap=True)
    _print_search(console, built, machine)
    print_manifest(console, built.folder)
    print_cost(console, built.cost)
    print_fidelity(console, built.certificate)
    if target == "offchain":
        console.print(
            "[yellow]off chain: it can be proved and verified, but no escrow takes it and no service quotes it[/]"
        )
    if key is None:
        console.print("nothing is signed: build with --owner-key to leave certificate, cost and attestation")
    else:
        console.print(f"signed by [bold]{key.address}[/]: fidelity, cost, attestation")
    console.print(f"kept in {built.folder.path}", markup=False)


def bench_command(
    *,
    max_seconds: Annotated[float, typer.Option(min=10, max=300, help="Begin no further circuit after that.")] = 240.0,
    home: Home = HOME,
    as_json: AsJson = False,
) -> None:
    """Prove a few small circuits and fit what seconds and memory cost on this machine.

    Builds predict by it from then on, and refuse before they start what would not fit. Leave the machine alone
    meanwhile. The constants are kept in the home; costs and receipts name them.
    """
    from circuits.tuner.bench import bench  # noqa: PLC0415 - numpy and onnx only where something is proved
    from circuits.tuner.cost import write_machine  # noqa: PLC0415 - the same
    from circuits.tuner.timing import this_machine  # noqa: PLC0415 - the same

    with steps(as_json=as_json) as progress:
        found = bench(home / "srs", name=str(this_machine()), max_seconds=max_seconds, progress=progress)
    write_machine(machine_file(home), found.machine)
    if as_json:
        print_json({"machine": canonical_floats(found.machine), **_judgement(found), "file": str(machine_file(home))})
        return
    console = Console(highlight=False, soft_wrap=True)
    table = Table("k", "columns", "extension", "seconds", "predicted", "memory MB", "predicted", box=None)
    for each in found.measured:
        shape = each.shape
        table.add_row(
            str(shape.logrows),
            str(shape.columns),
            str(shape.extension),
            f"{each.seconds:.2f}",
            f"{found.machine.seconds(shape):.2f}",
            f"{each.peak_bytes / 1e6:.0f}",
            f"{found.machine.memory_of(shape) / 1e6:.0f}",
        )
    console.print(table)
    judged = _judgement(found)
    console.print(
        f"circuits left out of the fit: seconds off by {judged['median_error']:.0%} (median), "
        f"memory {judged['memory_from']:+.0%} to {judged['memory_to']:+.0%}"
    )
    console.print(f"kept in {machine_file(home)}", markup=False)


def canonical_floats(machine: Machine) -> dict[str, Any]:
    """The constants as JSON holds them; they are measures of this machine and are never signed."""
    return {name: getattr(machine, name) for name in machine.__struct_fields__}


def _judgement(found: Fit) -> dict[str, float]:
    return {
        "median_error": round(found.median_error, 3),
        "memory_from": round(found.memory_from, 3),
        "memory_to": round(found.memory_to, 3),
        "seconds": round(found.seconds, 1),
    }


def _shares(text: str) -> tuple[float, ...]:
    from circuits.build import DEFAULT_SHARES  # noqa: PLC0415 - see build_command

    if text in ("auto", "ezkl"):
        return DEFAULT_SHARES if text == "auto" else ()
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 < share <= 1:
        raise UsageError(
            "U-fidelity", "--fidelity is no share", expected="0 to 1, such as 0.01, or auto or ezkl", found=text
        )
    return (share,)


def _text(name: str) -> Text:
    try:
        return Text(name)
    except ValueError as error:
        raise UsageError("U-name", "the model cannot be called that", found=str(error)) from error


def _chosen(built: Built) -> Candidate:
    return next(each for each in built.found.candidates if each.run_args == built.run_args)


def _rows(built: Built, machine: Machine) -> list[tuple[str, Candidate]]:
    """The one that was chosen, then what nothing beats in seconds, memory and gas."""
    from circuits.tuner.plot import front  # noqa: PLC0415 - see build_command

    chosen = _chosen(built)
    others = [each for each in front(built.found.candidates, machine) if each is not chosen]
    return [("chosen", chosen), *(("", each) for each in others[: _SHOWN - 1])]


def _as_json(built: Built, machine: Machine) -> dict[str, Any]:
    from circuits.tuner.search import describe  # noqa: PLC0415 - see build_command

    given, other = built.baseline, built.other_inputs
    return {
        "circuit_id": str(built.compiled.manifest.circuit_id),
        "folder": str(built.folder.path),
        "cost": canonical.to_builtins(built.cost),
        "fidelity": canonical.to_builtins(built.certificate),
        "search": {
            "probes": built.found.probes,
            "cached": built.found.cached,
            "seconds": round(built.found.seconds, 1),
            "stopped": built.found.stopped,
            "front": [
                {
                    "knobs": describe(each.run_args),
                    "chosen": bool(note),
                    "prove_seconds": round(each.seconds(machine), 3),
                    "memory_bytes": machine.memory_of(each.layout),
                    "gas": each.layout.gas,
                    "code_bytes": each.layout.code_bytes,
                    "max_error": each.fidelity.max_error,
                    "agreement": each.fidelity.agreement,
                }
                for note, each in _rows(built, machine)
            ],
            "other_inputs": None
            if other is None
            else {
                "inputs": other.run_args.visibility,
                "logrows": other.run_args.logrows,
                "prove_seconds": round(machine.seconds(other.layout), 3),
                "memory_bytes": machine.memory_of(other.layout),
                "gas": other.layout.gas,
                "code_bytes": other.layout.code_bytes,
            },
            "ezkl": None
            if given is None
            else {
                "logrows": given.logrows,
                "max_error": given.fidelity.max_error,
                "agreement": given.fidelity.agreement,
                "refused_samples": given.refused,
                "prove_seconds": round(machine.seconds(given.layout), 3) if given.layout else None,
            },
        },
    }


def _print_search(console: Console, built: Built, machine: Machine) -> None:
    from circuits.tuner.search import describe  # noqa: PLC0415 - see build_command

    table = Table(
        "", "k, columns, base^legs, scale, multiplier", "prove s", "memory MB", "gas", "code", "error", box=None
    )
    for note, each in _rows(built, machine):
        shape = each.layout
        table.add_row(
            note,
            describe(each.run_args),
            f"{each.seconds(machine):.2f}",
            f"{machine.memory_of(shape) / 1e6:.0f}",
            f"{shape.gas:,}",
            f"{shape.code_bytes:,}",
            f"{each.fidelity.max_error:.2g}",
        )
    other = built.other_inputs
    if other is not None:
        shape = other.layout
        table.add_row(
            f"{other.run_args.visibility} inputs",
            describe(other.run_args),
            f"{machine.seconds(shape):.2f}",
            f"{machine.memory_of(shape) / 1e6:.0f}",
            f"{shape.gas:,}",
            f"{shape.code_bytes:,}",
            "",
        )
    given = built.baseline
    if given is not None and given.layout is not None:
        shape = given.layout
        table.add_row(
            "EZKL's",
            f"k{given.logrows}" + (f", refuses {given.refused} samples" if given.refused else ""),
            f"{machine.seconds(shape):.2f}",
            f"{machine.memory_of(shape) / 1e6:.0f}",
            f"{shape.gas:,}",
            f"{shape.code_bytes:,}",
            f"{given.fidelity.max_error:.2g}",
        )
    ended = f", {built.found.stopped}" if built.found.stopped else ""
    console.print(
        f"[bold]search[/]       {built.found.probes} choices of scales in {built.found.seconds:.0f} s{ended}; "
        f"the cheapest that is faithful, as predicted for {machine.name}:",
    )
    console.print(table)
