"""`opgate circuit`: every command about circuits. The commands print; they decide nothing by themselves."""

from __future__ import annotations

import typer

from circuits.check.command import check_command
from circuits.cli.build import bench_command, build_command
from circuits.cli.records import accept_command, compile_check_command, rebuild_command
from circuits.cli.show import export_command, list_command, show_command
from circuits.cli.srs import srs_app

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Check, build, rebuild, show and export circuits of ONNX models."
)
app.command("check")(check_command)
app.command("build")(build_command)
app.command("bench")(bench_command)
app.command("rebuild")(rebuild_command)
app.command("compile-check")(compile_check_command)
app.command("accept")(accept_command)
app.command("show")(show_command)
app.command("list")(list_command)
app.command("export")(export_command)
app.add_typer(srs_app, name="srs")
