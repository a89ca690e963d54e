"""Options of the command line that several commands have alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Half = Annotated[
    bool | None,
    typer.Option("--bf16/--fp32", help="Compute in bfloat16 (default: where the processor has it) or float32."),
]
MetricsFile = Annotated[
    Path | None,
    typer.Option("--metrics-file", help="Prometheus text file (.prom) for node_exporter's textfile collector."),
]
MetricsPort = Annotated[
    int | None, typer.Option("--metrics-port", min=1, max=65535, help="Prometheus may ask here while it runs.")
]
MetricsHost = Annotated[str, typer.Option("--metrics-host", help="Address to listen on; 0.0.0.0 for other machines.")]
