"""Training steps on JAX: pure functions of all state.

A step at a time on a CPU. On a GPU an epoch runs on the device, since a step there is over before
the host has fed and read the next: the images stay on it, an epoch's order and transforms are
uploaded once, and one compiled program takes many steps before its losses are read.
"""

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
from jax import lax
from keras import ops
from numpy.typing import NDArray

from deepnets.config.sections import RunParams
from deepnets.data.splits import Split
from deepnets.networks import on_device, runtime
from deepnets.training import batches
from deepnets.training.augment import Warp
from deepnets.training.batches import Batch
from deepnets.training.packing import Packing, Slots, Variables, build_optimizer
from deepnets.training.placement import Placement
from deepnets.training.step_by_step import Step, StepByStep

# A read-back and a look at the clock every so many steps: a tenth of a second or two.
_LONGEST_CHUNK = 128
_SHORTEST_CHUNK = 16


MakeOptimizer = Callable[[], keras.optimizers.Optimizer]


class BatchStepper(StepByStep):
    """A compiled step that updates all state in place.

    Keras' `train_on_batch` would copy hundreds of values into its variables and out of them again
    in every step; here that happens once an epoch.
    """

    def __init__(
        self, view: keras.Model, optimizer: MakeOptimizer, loss: Any, placement: Placement
    ) -> None:
        self.optimizer = optimizer()
        self._placement = placement
        self._places = build_optimizer(self.optimizer, view.trainable_variables)
        self._variables = Variables(view, self.optimizer)
        step = _step(view, self.optimizer.stateless_apply, loss, placement)
        self._step = jax.jit(step, donate_argnums=0, **placement.options)

    @contextmanager
    def epoch(self) -> Iterator[Step]:
        """See `steps.Stepper`."""
        # Copies, since the step takes its state over.
        state = self._placement.everywhere(_copies(self._variables.values))

        def take(batch: Batch) -> dict[str, float]:
            nonlocal state
            inputs = [batch.images, batch.transforms, batch.dropout_keys]
            state, result = self._step(state, inputs, batch.labels)
            return {key: float(value) for key, value in result.items()}

        try:
            yield take
        finally:
            self._variables.assign(self._placement.here(state))

    def repeats(self, training: Split, run: RunParams) -> bool:
        """See `steps.Stepper`: a CPU's do."""
        return True


class DeviceStepper(BatchStepper):
    """Whole epochs on the device; the variables change when an epoch is over, and not before."""

    def __init__(
        self, view: keras.Model, optimizer: MakeOptimizer, loss: Any, placement: Placement
    ) -> None:
        super().__init__(view, optimizer, loss, placement)
        # Of packed weights; optimizers here treat each weight alike, whatever is beside it.
        packed = optimizer()
        packing = Packing(view.trainable_variables)
        others = Packing(view.non_trainable_variables)
        slots = Slots(self._places, build_optimizer(packed, packing.variables()), packing)
        network = view.get_layer("warped_view")

        def unpack(state: Any) -> Any:
            trainable, averages, of_optimizer = state
            return packing.unpack(trainable), others.unpack(averages), slots.unpack(of_optimizer)

        def pack(values: Any) -> Any:
            trainable, averages, of_optimizer = values
            packed = packing.pack(trainable), others.pack(averages), slots.pack(of_optimizer)
            return _copies(packed)

        def apply(of_optimizer: Any, gradients: Any, trainable: Any) -> Any:
            return packed.stateless_apply(of_optimizer, packing.pack(gradients), trainable)

        unpacking = packing.unpack, (others.unpack, others.pack)
        step = _step(network, apply, loss, placement, *unpacking)

        def chunk(state: Any, images: Any, labels: Any, drawn: Any, start: Any, size: int) -> Any:
            order, transforms, keys = (lax.dynamic_slice_in_dim(of, start, size) for of in drawn)
            # The warp is a handful of small kernels: once for all of the chunk's images.
            pixels = Warp()(images[order.reshape(-1)], transforms.reshape(-1, 8))
            warped = pixels.reshape(*order.shape, *pixels.shape[1:])
            inputs = ([warped, keys], labels[order])
            return lax.scan(lambda state, x: step(state, *x), state, inputs)

        options = runtime.compiler_options()
        self._pack, self._unpack = jax.jit(pack), jax.jit(unpack)
        self._chunk = jax.jit(
            chunk,
            donate_argnums=0,
            static_argnums=5,
            compiler_options=options or None,
            **placement.options,
        )
        self._compiled: dict[int, Any] = {}
        self._repeats: bool | None = None
        self._drawn: tuple[Split, RunParams, int, tuple[Any, ...]] | None = None

    def train(
        self, training: Split, run: RunParams, epoch: int, count: int | None = None
    ) -> Iterator[dict[str, NDArray[np.float32]]]:
        """See `steps.Stepper`."""
        arguments = self._arguments(training, run, epoch)
        total = len(arguments[2][0])
        state = self._state()
        read = None
        for start, size in _chunks(total if count is None else min(count, total)):
            state, result = self._program(size, state, *arguments)(state, *arguments, start)
            # One behind, so that the device has work while the host looks at the results.
            if read is not None:
                yield jax.tree.map(np.asarray, read)
            read = result
        if epoch < run.epochs:
            self._draw(training, run, epoch + 1)  # while the device has work
        if read is not None:
            yield jax.tree.map(np.asarray, read)
        self._variables.assign(self._unpack(self._placement.here(state)))

    def program(self, training: Split, run: RunParams) -> str | None:
        """See `steps.Stepper`; compiles it."""
        arguments = self._arguments(training, run, 1)
        state = self._state()
        texts = [
            self._program(size, state, *arguments).as_text()
            for size in dict.fromkeys(size for _, size in _chunks(len(arguments[2][0])))
        ]
        return _digest(texts)

    def repeats(self, training: Split, run: RunParams) -> bool:
        """See `steps.Stepper`: an epoch's first chunk, twice, and once for all seeds."""
        if self._repeats is None:
            arguments = self._arguments(training, run, 1)
            start, size = _chunks(len(arguments[2][0]))[0]
            first, second = (
                self._program(size, state, *arguments)(state, *arguments, start)
                for state in (self._state() for _ in range(2))
            )
            self._repeats = all(
                np.array_equal(a, b, equal_nan=True)
                for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True)
            )
        return self._repeats

    def seconds_alone(self, training: Split, run: RunParams) -> float:
        """Seconds that the device takes for the steps of an epoch, with nothing between them.

        For measurements: the variables do not change.
        """
        arguments = self._arguments(training, run, 1)
        state = self._state()
        chunks = _chunks(len(arguments[2][0]))
        programs = {size: self._program(size, state, *arguments) for _, size in chunks}
        jax.block_until_ready(state)
        started = time.perf_counter()
        for start, size in chunks:
            state, _ = programs[size](state, *arguments, start)
        jax.block_until_ready(state)
        return time.perf_counter() - started

    def _arguments(self, training: Split, run: RunParams, epoch: int) -> tuple[Any, Any, Any]:
        """Images, labels, and what the epoch draws, all on the device."""
        drawn = self._draw(training, run, epoch)
        digits = on_device.put(training.images), on_device.put(training.labels)
        return (*self._placement.everywhere(digits), drawn)

    def _state(self) -> Any:
        """The variables' values, packed, as the first program of an epoch takes them over."""
        return self._placement.everywhere(self._pack(self._variables.values))

    def _draw(self, training: Split, run: RunParams, epoch: int) -> tuple[Any, ...]:
        """What the epoch draws, a step a row, on the device; the latest is kept."""
        if self._drawn is not None:
            split, params, number, kept = self._drawn
            if split is training and params is run and number == epoch:
                return kept
        drawn = batches.draw_epoch(training, run, epoch)
        steps = len(drawn.order) // run.batch_size

        def by_step(rows: NDArray[Any]) -> Any:
            return jax.device_put(rows.reshape(steps, run.batch_size, *rows.shape[1:]))

        rows = (drawn.order.astype(np.int32), drawn.transforms, drawn.dropout_keys)
        placed: tuple[Any, ...] = self._placement.everywhere(tuple(map(by_step, rows)))
        self._drawn = training, run, epoch, placed
        return placed

    def _program(self, size: int, *arguments: Any) -> Any:
        if size not in self._compiled:
            lowered = self._chunk.lower(*arguments, np.int32(0), size)
            self._compiled[size] = lowered.compile()
        return self._compiled[size]


def _step(
    view: keras.Model,
    apply: Callable[..., Any],
    loss: Callable[[Any, Any], Any],
    placement: Placement,
    weights: Callable[[Any], Any] = list,
    averages: tuple[Callable[[Any], Any], Callable[[Any], Any]] = (list, list),
) -> Callable[[Any, Any, Any], tuple[Any, Any]]:
    """The step (state, inputs, labels) -> (state, loss and accuracy) of `view`.

    Args:
        view: from inputs to logits.
        apply: (optimizer's state, gradients of the weights, trainable state) -> the two, updated.
        loss: of labels and logits.
        placement: where the batch is computed.
        weights: makes the view's trainable weights of their state.
        averages: make its other variables of their state, and the other way round.
    """

    def forward(trainable: Any, others: Any, inputs: Any, labels: Any) -> tuple[Any, Any]:
        logits, others = view.stateless_call(trainable, others, inputs, training=True)
        return loss(labels, logits), (logits, others)

    def step(state: Any, inputs: Any, labels: Any) -> tuple[Any, Any]:
        trainable, others, of_optimizer = state
        inputs, labels = placement.split((inputs, labels))
        (value, (logits, values)), gradients = jax.value_and_grad(forward, has_aux=True)(
            weights(trainable), averages[0](others), inputs, labels
        )
        trainable, of_optimizer = apply(of_optimizer, gradients, trainable)
        hits = ops.equal(ops.argmax(logits, axis=-1), labels)
        result = {"loss": value, "accuracy": ops.mean(hits)}
        return (trainable, averages[1](values), of_optimizer), result

    return step


def _copies(values: Any) -> Any:
    return jax.tree.map(jnp.copy, values)


def _chunks(steps: int) -> list[tuple[int, int]]:
    """Where the chunks of an epoch start and how many steps they have: of one length if possible.

    Each length is compiled once.
    """
    lengths = [n for n in range(_SHORTEST_CHUNK, _LONGEST_CHUNK + 1) if steps % n == 0]
    length = max(lengths, default=min(steps, _LONGEST_CHUNK // 2))
    return [(start, min(length, steps - start)) for start in range(0, steps, length)]


def _digest(programs: Sequence[str]) -> str:
    """sha256 of compiled programs, less what they say of the source that they were made from."""
    digest = hashlib.sha256()
    for text in programs:
        computations = text[text.find("\n%") :]
        digest.update(re.sub(r", metadata=\{[^}]*\}", "", computations).encode())
    return digest.hexdigest()
