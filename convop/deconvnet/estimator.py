"""The estimator conventions of scikit-learn: parameters of the constructor by name, tags, and a short repr."""

from __future__ import annotations

import inspect
from typing import Any, Self

import numpy as np


class Estimator:
    """Base class whose parameters are the arguments of the constructor, each kept in the attribute of its name."""

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in inspect.signature(cls.__init__).parameters if name != "self"]

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: ARG002 - part of scikit-learn's interface
        """Return the parameters by name, as they were given.

        Parameters
        ----------
        deep : bool
            Has no effect: no parameter is an estimator itself.

        Returns
        -------
        dict
        """
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **parameters: Any) -> Self:
        """Change parameters.

        Parameters
        ----------
        **parameters
            New values by name.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If there is no parameter of a name.
        """
        for name in parameters:
            if name not in self._names():
                raise ValueError(f"{type(self).__name__} has no parameter {name!r}; it has {', '.join(self._names())}")
        for name, value in parameters.items():
            setattr(self, name, value)
        return self

    def __sklearn_tags__(self) -> Any:
        """Tells scikit-learn that there is no target and no prediction."""
        from sklearn.utils import Tags, TargetTags

        return Tags(estimator_type=None, target_tags=TargetTags(required=False))

    def __repr__(self) -> str:
        defaults = {name: p.default for name, p in inspect.signature(type(self).__init__).parameters.items()}
        given = [
            repr(value) if defaults[name] is inspect.Parameter.empty else f"{name}={value!r}"
            for name, value in self.get_params().items()
            if not _is_default(value, defaults[name])
        ]
        return f"{type(self).__name__}({', '.join(given)})"


def _is_default(value: object, default: object) -> bool:
    """Whether a value equals the default of its parameter; an array never does."""
    return default is not inspect.Parameter.empty and not isinstance(value, np.ndarray) and bool(value == default)
