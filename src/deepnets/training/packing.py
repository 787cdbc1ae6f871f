"""Weights and the optimizer's state in the form in which a step on a GPU keeps them."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np


class Packing:
    """Variables in the form in which a step on a GPU keeps them.

    Kernels of convolutions are (filters, height, width, channels), as its library takes them, so
    that none is transposed in a step. All vectors are one, which one kernel updates.
    """

    def __init__(self, variables: Sequence[Any]) -> None:
        self._shapes = [tuple(variable.shape) for variable in variables]
        vector = [len(shape) == 1 for shape in self._shapes]
        self._vectors = [index for index, is_one in enumerate(vector) if is_one]
        self._others = [index for index, is_one in enumerate(vector) if not is_one]
        self._cuts = np.cumsum([self._shapes[index][0] for index in self._vectors])[:-1]

    def pack(self, values: Sequence[Any]) -> list[Any]:
        """From the variables' order and shapes."""
        packed = [
            jnp.transpose(values[index], (3, 0, 1, 2)) if self._is_kernel(index) else values[index]
            for index in self._others
        ]
        vectors = [values[index] for index in self._vectors]
        return [*packed, jnp.concatenate(vectors)] if vectors else packed

    def unpack(self, packed: Sequence[Any]) -> list[Any]:
        """The inverse of `pack`."""
        values: dict[int, Any] = {}
        for index, value in zip(self._others, packed, strict=False):
            values[index] = jnp.transpose(value, (1, 2, 3, 0)) if self._is_kernel(index) else value
        if self._vectors:
            parts = jnp.split(packed[-1], self._cuts)
            values |= dict(zip(self._vectors, parts, strict=True))
        return [values[index] for index in range(len(self._shapes))]

    def variables(self) -> list[Any]:
        """Variables of the packed shapes."""
        values = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in self._shapes]
        shapes = jax.eval_shape(self.pack, values)
        return [keras.Variable(np.zeros(of.shape, of.dtype), name="packed") for of in shapes]

    def _is_kernel(self, index: int) -> bool:
        return len(self._shapes[index]) == 4


class Slots:
    """The packing of an optimizer's variables: each of its slots as the weights are packed."""

    def __init__(self, places: list[Any], packed_places: list[Any], packing: Packing) -> None:
        self._places, self._packed_places, self._packing = places, packed_places, packing

    def pack(self, values: Sequence[Any]) -> list[Any]:
        return self._arrange(values, self._places, self._packed_places, self._packing.pack)

    def unpack(self, packed: Sequence[Any]) -> list[Any]:
        return self._arrange(packed, self._packed_places, self._places, self._packing.unpack)

    @staticmethod
    def _arrange(
        values: Sequence[Any],
        before: list[Any],
        after: list[Any],
        convert: Callable[[Sequence[Any]], list[Any]],
    ) -> list[Any]:
        slots: dict[str, dict[int, Any]] = {}
        shared = []
        for place, value in zip(before, values, strict=True):
            if place is None:
                shared.append(value)
            else:
                slots.setdefault(place[0], {})[place[1]] = value
        converted = {
            name: convert([of[index] for index in sorted(of)]) for name, of in slots.items()
        }
        rest = iter(shared)
        return [next(rest) if place is None else converted[place[0]][place[1]] for place in after]


def build_optimizer(optimizer: keras.optimizers.Optimizer, variables: Sequence[Any]) -> list[Any]:
    """Build `optimizer`; for each of its variables the slot's name and the index of the weight.

    None for those that belong to no weight, as the count of steps.
    """
    indices = {id(variable): index for index, variable in enumerate(variables)}
    found: dict[int, tuple[str, int]] = {}
    add = optimizer.add_variable_from_reference

    def record(reference_variable: Any, name: str = "", **options: Any) -> Any:
        slot = add(reference_variable, name=name, **options)
        found[id(slot)] = (name, indices[id(reference_variable)])
        return slot

    optimizer.add_variable_from_reference = record
    optimizer.build(variables)
    return [found.get(id(variable)) for variable in optimizer.variables]


class Variables:
    """All variables of a training, in three groups."""

    def __init__(self, view: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
        self._groups = (
            view.trainable_variables,
            view.non_trainable_variables,
            optimizer.variables,
        )

    @property
    def values(self) -> Any:
        return tuple([variable.value for variable in group] for group in self._groups)

    def assign(self, values: Any) -> None:
        for group, new in zip(self._groups, values, strict=True):
            for variable, value in zip(group, new, strict=True):
                variable.assign(value)
