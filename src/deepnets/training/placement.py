"""Where a training's arrays are on JAX: on one device, or a batch in equal parts on several.

Of several, every device has all the weights, and computes its part of each batch. JAX's compiler
adds what the parts have to tell each other, so that means, moments and gradients are those of the
whole batch, as on one device; only their sums are in another order. `keras.distribution` would have
the variables themselves on all devices, and with them validation and all that is saved.
"""

from typing import Any

import jax
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec


class Placement:
    """On the devices of `mesh`, which has one axis; without one, everything stays as it is."""

    def __init__(self, mesh: Mesh | None = None) -> None:
        self._mesh = mesh
        # Of `jax.jit`: every device has the whole of what comes out.
        self.options: dict[str, Any] = {} if mesh is None else {"out_shardings": self._of()}

    def everywhere(self, values: Any) -> Any:
        """Arrays that each process has, on each device; those of this process may be shared."""
        return values if self._mesh is None else jax.tree.map(self._copy, values)

    def here(self, values: Any) -> Any:
        """What is on all devices, as arrays of this process' first one alone."""
        if self._mesh is None:
            return values
        return jax.tree.map(lambda value: value.addressable_data(0), values)

    def split(self, values: Any) -> Any:
        """In a compiled function: arrays (n, ...), of which each device has to take a part."""
        if self._mesh is None:
            return values
        return lax.with_sharding_constraint(values, self._of(*self._mesh.axis_names))

    def _of(self, *axes: str) -> NamedSharding:
        assert self._mesh is not None
        return NamedSharding(self._mesh, PartitionSpec(*axes))

    def _copy(self, value: Any) -> Any:
        sharding = self._of()
        # `device_put` to devices of other processes would compare the values first.
        parts = [jax.device_put(value, device) for device in sharding.addressable_devices]
        return jax.make_array_from_single_device_arrays(np.shape(value), sharding, parts)
