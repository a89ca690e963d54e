"""Engines: where workers run. In this process (`here`), in processes of this machine (`local`), or on Ray (`ray`)."""

from screening.batch.engines.engine import Crashed, Done, Engine, EngineOptions, open_engine

__all__ = ["Crashed", "Done", "Engine", "EngineOptions", "open_engine"]
