"""Selection of an engine by name, by prediction (``"auto"``) or by measurement (``"measure"``), for CPU and GPU alike."""

from __future__ import annotations

import statistics
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.util import find_spec
from typing import TypeAlias

import numpy as np

from ..arrays.backend import Array, namespace
from ..geometry.arguments import one_of
from ..geometry.spec import ConvSpec
from .protocol import Engine

EngineFactory: TypeAlias = Callable[[ConvSpec, Array], Engine]

AUTOMATIC = ("auto", "measure")
_ROUNDS, _CALLS = 3, 3


@lru_cache(maxsize=1)
def torch_is_installed() -> bool:
    """Whether PyTorch can be imported; it is not imported here."""
    return find_spec("torch") is not None


def torch_engine(spec: ConvSpec, kernel: Array) -> Engine:
    """The engine that calls PyTorch, which is imported here."""
    from .torch import TorchEngine

    return TorchEngine(spec, kernel)


class Selector(ABC):
    """The engines of one device, and the choice among them.

    Parameters
    ----------
    engines : mapping
        Makes the engine of a name from a spec and a kernel.
    argument : str
        The argument's name in error messages.
    rest : mapping, optional
        Seconds for which an engine keeps the machine busy after its last call, by name.
    synchronize : callable, optional
        Waits until the device has done all its work; nothing by default.
    """

    def __init__(
        self,
        engines: Mapping[str, EngineFactory],
        argument: str,
        *,
        rest: Mapping[str, float] | None = None,
        synchronize: Callable[[], object] = lambda: None,
    ) -> None:
        self.engines, self._argument = engines, argument
        self._rest, self._synchronize = rest or {}, synchronize
        # The winners of measurements, by spec, dtype and candidates.
        self._winners: dict[tuple[ConvSpec, str, tuple[str, ...]], str] = {}

    @abstractmethod
    def predicted(self, spec: ConvSpec, kernel: Array) -> str:
        """Name of the engine that is predicted to be fastest."""

    @abstractmethod
    def measured_candidates(self, spec: ConvSpec, kernel: Array) -> tuple[str, ...]:
        """Names of the engines that are worth a measurement."""

    def available(self) -> tuple[str, ...]:
        """Names of the engines whose libraries are installed."""
        return tuple(name for name in self.engines if name != "torch" or torch_is_installed())

    def check(self, name: object) -> str:
        """The name of an available engine, or ``"auto"`` or ``"measure"``.

        Parameters
        ----------
        name : object
            The argument `engine` as the user gave it.

        Returns
        -------
        str

        Raises
        ------
        ValueError
            If there is no engine of that name.
        """
        if isinstance(name, str) and name == "torch" and not torch_is_installed():
            raise ValueError("engine='torch' needs PyTorch, which is not installed: pip install 'convop[torch]'")
        return one_of(self._argument, name, (*AUTOMATIC, *self.available()))

    def resolve(self, name: str, spec: ConvSpec, kernel: Array) -> str:
        """The engine that ``"auto"`` or ``"measure"`` stand for with a spec and a kernel; other names stay."""
        if name == "auto":
            return self.predicted(spec, kernel)
        return self._fastest(spec, kernel) if name == "measure" else name

    def make(self, name: str, spec: ConvSpec, kernel: Array) -> Engine:
        """The engine of a name, checked, for a spec and a kernel."""
        return self.engines[self.resolve(self.check(name), spec, kernel)](spec, kernel)

    def with_kernel(self, name: str, engine: Engine, spec: ConvSpec, kernel: Array) -> Engine:
        """The engine of a name for another kernel, which shares tables with an engine of the same spec."""
        # The best engine of a spec may depend on the kernel, which may be of low rank.
        wanted = self.resolve(name, spec, kernel) if name in AUTOMATIC else engine.name
        return engine.with_kernel(kernel) if wanted == engine.name else self.engines[wanted](spec, kernel)

    def _fastest(self, spec: ConvSpec, kernel: Array) -> str:
        """The engine with the shortest time of forward and adjoint, measured once per spec, dtype and candidates."""
        names = self.measured_candidates(spec, kernel)
        key = (spec, kernel.dtype.char, names)
        if key not in self._winners:
            self._winners[key] = names[0] if len(names) == 1 else self._measure(names, spec, kernel)
        return self._winners[key]

    def _measure(self, names: tuple[str, ...], spec: ConvSpec, kernel: Array) -> str:
        xp, rng = namespace(kernel), np.random.default_rng(0)
        y, x = (xp.asarray(rng.standard_normal(n).astype(kernel.dtype)) for n in spec.shape)
        engines = {}
        for name in names:
            engine = self.engines[name](spec, kernel)
            try:
                engine.forward(x), engine.adjoint(y)  # compiles and prepares
            except MemoryError:
                continue
            engines[name] = engine
        seconds: dict[str, list[float]] = {name: [] for name in engines}
        for _ in range(_ROUNDS):
            for name, engine in engines.items():  # in turn, so that a disturbance meets all
                engine.forward(x)
                for _ in range(_CALLS):
                    self._synchronize()
                    start = time.perf_counter()
                    engine.forward(x), engine.adjoint(y)
                    self._synchronize()
                    seconds[name].append(time.perf_counter() - start)
                if name in self._rest:
                    time.sleep(self._rest[name])
        return min(seconds, key=lambda name: statistics.median(seconds[name]))
