"""The command `screening train-slabs`."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated

import typer

from evaluation.cli import Track, TrackingUri
from screening.cli import Model, one_sentence
from screening.configs import config_dir
from screening.errors import ConfigError
from training.options import Config, DataRoot, Out, Threads, Workers, write_curve

LOG = logging.getLogger(__name__)


def join(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("train-slabs")(train_slabs_command)


def train_slabs_command(
    version: Annotated[str, typer.Option("--version", help="The new bundle's version.")],
    model: Model = None,
    config: Config = "slabs",
    data_root: DataRoot = Path("."),
    out: Out = Path("out/slabs"),
    member: Annotated[
        int | None, typer.Option("--member", min=0, help="Train only this network (from 0); run several side by side.")
    ] = None,
    threads: Threads = 1,
    workers: Workers = 0,
    scorers: Annotated[
        int, typer.Option("--scorers", min=1, help="Exams scored at once when the scale is fitted.")
    ] = os.cpu_count() or 1,
    track: Track = True,
    tracking_uri: TrackingUri = None,
) -> None:
    """Train networks for the slabs of tomosynthesis volumes, and write --model with them to --out/bundle.

    What --model says of 2D images stays exactly as it is. When every network is trained, the scale of their answers is
    fitted on the recipe's calibration women.
    """
    with one_sentence():
        import torch

        from training.slab_networks.bundle import write_with_slabs
        from training.slab_networks.recipe import load_slab_recipe
        from training.slab_networks.train import (
            IDENTITY,
            check_apart,
            fit_scale,
            load_start,
            teaching_volumes,
            train_member,
            trained_members,
            volume_records,
            with_slabs_read,
        )

        torch.set_num_threads(threads)
        bundled = config_dir("training") / f"{config}.yaml"
        recipe = load_slab_recipe(bundled if bundled.is_file() else Path(config), data_root)
        if member is not None and member >= recipe.members:
            raise ConfigError(f"--member: the recipe has members 0 to {recipe.members - 1}")
        records = [one for source in recipe.data for one in teaching_volumes(source)]
        others = volume_records(recipe.calibration)
        check_apart(records, others)
        bundle = load_start(model, recipe)
        for k in range(recipe.members) if member is None else (member,):
            train_member(k, records, recipe, bundle, out, write_curve(out / f"member-{k}" / "curve.csv"), workers)
        networks = trained_members(recipe, out)
        if not networks:
            LOG.info("member %s is trained; others are not, so there is no bundle yet", member)
            return
        unscaled = with_slabs_read(bundle, recipe, networks, IDENTITY)
        scale = fit_scale(unscaled, others, recipe.calibration, out / "calibration", scorers)
        made = with_slabs_read(bundle, recipe, networks, scale)
        write_with_slabs(made, recipe, records, version, out / "bundle")
        typer.echo(f"bundle with slab networks in {out / 'bundle'}")
        if track:
            from training.tracking import log_slabs

            log_slabs(recipe, records, out / "bundle", out, tracking_uri)
