"""Engines: where workers run. In this process (`here`), in processes of this machine (`local`), or on Ray (`ray`)."""

from screening.batch.engines.engine import EXAM_SECONDS, Crashed, Done, Engine, EngineOptions, open_engine

__all__ = ["EXAM_SECONDS", "Crashed", "Done", "Engine", "EngineOptions", "open_engine"]
