"""What JAX keeps on a GPU, and a network's answers for images that are there."""

from typing import Any
from weakref import WeakKeyDictionary

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import lax
from numpy.typing import NDArray

from deepnets.networks import runtime

# By view; a compiled function lives as long as what it was made for.
_forward: "WeakKeyDictionary[keras.Model, Any]" = WeakKeyDictionary()


def predict(view: keras.Model, images: NDArray[np.uint8], batch: int) -> NDArray[np.float32]:
    """What `view` says of images, uint8 (n, size, size, 3), that are on the device: float32 (n, k).

    Args:
        view: of images alone.
        images: any number; they are sent once for several calls.
        batch: how many are looked at together.
    """
    if view not in _forward:

        def forward(trainable: Any, others: Any, images: Any) -> Any:
            def of(part: Any) -> Any:
                return view.stateless_call(trainable, others, part, training=False)[0]

            count = -(-len(images) // batch) * batch
            padded = jnp.pad(images, ((0, count - len(images)), (0, 0), (0, 0), (0, 0)))
            outputs = lax.map(of, padded.reshape(-1, batch, *images.shape[1:]))
            return outputs.reshape(count, -1)[: len(images)]

        options = runtime.compiler_options() or None
        _forward[view] = jax.jit(forward, compiler_options=options)
    groups = (view.trainable_variables, view.non_trainable_variables)
    values = [[variable.value for variable in group] for group in groups]
    return np.asarray(_forward[view](*values, put(images)))


# The arrays that are on the device, the newest last; the host's are kept, so that ids stay theirs.
_kept: dict[int, tuple[Any, Any]] = {}


_MOST_KEPT = 4


def put(array: NDArray[Any]) -> Any:
    """`array` on the device; what was put there lately is not sent again."""
    if id(array) not in _kept:
        for old in list(_kept)[: max(0, len(_kept) - _MOST_KEPT + 1)]:
            del _kept[old]
        _kept[id(array)] = (array, jax.device_put(np.asarray(array)))
    return _kept[id(array)][1]
