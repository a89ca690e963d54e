"""A cluster of Ray whose actors, nodes and network really die. No exam is lost or doubled."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import sqlalchemy as sa

from screening.batch.runner import Batch, run_batch
from screening.exam import Exam
from screening.model.bundle import Bundle
from screening.store import STORE_NAME, ResultStore
from screening.store.schema import LedgerRow
from tests.support.batches import StubSetup, write_exams
from tests.support.chaos import RAY_KINDS, Chaos, ray_nodes, tables
from tests.support.network import needs_ip, two_hosts
from tests.support.peers import needs_package

LOOKS_OFTEN = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
}
"""Of Ray's head: a node that does not answer is given up after seconds instead of a minute."""

Found = TypeVar("Found")


def undisturbed(bundle: Bundle, exams: Sequence[Exam], out: Path) -> dict[str, bytes]:
    run_batch(Batch("default", exams, (), {}, workers=0), bundle, out, setup=StubSetup(bundle.model_id))
    return tables(out)


@needs_package("ray")
def test_kills_of_the_runner_of_ray_actors_and_of_a_ray_node_lose_and_double_nothing(
    bundle: Bundle, bundle_folder: Path, tmp_path: Path
) -> None:
    exams = write_exams(tmp_path / "in", 60)
    with ray_nodes(1) as nodes:
        options = {"engine": "ray", "address": nodes.address, "seconds": 0.2}
        chaos = Chaos(bundle_folder, tmp_path / "in", tmp_path / "out", options, 2, RAY_KINDS, nodes)
        chaos.run(kills=4, between_s=(0.2, 1.0))
    assert set(chaos.killed) == {"runner", "worker", "node"}
    assert tables(tmp_path / "out") == undisturbed(bundle, exams, tmp_path / "whole")


@needs_package("ray")
@needs_ip
def test_a_ray_node_that_is_cut_off_and_comes_back_late_loses_and_doubles_nothing(
    bundle: Bundle, bundle_folder: Path, tmp_path: Path
) -> None:
    exams = write_exams(tmp_path / "in", 60)
    with two_hosts() as wire, ray_nodes(0, wire.first, LOOKS_OFTEN) as nodes:
        nodes.add(wire.second)
        options = {"engine": "ray", "address": nodes.address, "workers": 2, "seconds": 0.4}
        chaos = Chaos(bundle_folder, tmp_path / "in", tmp_path / "out", options, nodes=nodes, host=wire.first)
        chaos.start()
        try:
            wait_for(lambda: scored_by_worker(tmp_path / "out"), lambda found: len(found) == 2)
            wire.cut()
            wait_for(lambda: chaos.log.read_text(), lambda log: " died (" in log)
            wire.mend()
            assert not chaos.ended()
            wait_for(chaos.ended, bool)
        finally:
            chaos.stop()
    assert tables(tmp_path / "out") == undisturbed(bundle, exams, tmp_path / "whole")


def wait_for(look: Callable[[], Found], enough: Callable[[Found], bool], seconds: float = 120.0) -> Found:
    deadline = time.monotonic() + seconds
    while not enough(found := look()):
        assert time.monotonic() < deadline, f"still {found}"
        time.sleep(0.1)
    return found


def scored_by_worker(out: Path) -> dict[str, int]:
    """How many exams each worker has scored so far."""
    if not (out / STORE_NAME).exists():
        return {}
    with ResultStore(out / STORE_NAME) as store, store.reading() as session:
        query = sa.select(LedgerRow.worker, sa.func.count()).where(LedgerRow.state == "scored")
        return {worker or "": number for worker, number in session.execute(query.group_by(LedgerRow.worker))}
