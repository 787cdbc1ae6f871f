"""Each convolution of both networks: the library's kernels against plain matrix products.

    python benchmarks/layers.py [ARCH ...]

Forward and both gradients together, batch 32, in turns; medians in milliseconds. The last column
says which of the two training uses (see deepnets.networks.convolutions).
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from deepnets.networks import runtime

runtime.start_framework()

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from deepnets.networks import convolutions, models  # noqa: E402

_BATCH = 32
_ROUNDS = 15


def main(archs: list[str]) -> None:
    """Print a line for each different convolution of `archs`, and what the choice is worth."""
    for arch in archs:
        classifier = models.build(arch, 32, 0.5)
        convolutions_of: dict[tuple[Any, ...], list[keras.layers.Conv2D]] = {}
        for layer in classifier.get_layer(arch).layers:
            if isinstance(layer, keras.layers.Conv2D) and layer.kernel.shape[2] > 3:
                side, channels = layer.input.shape[1], layer.input.shape[3]
                key = (side, channels, layer.filters, layer.kernel_size[0], layer.strides[0])
                convolutions_of.setdefault(key, []).append(layer)
        saved = 0.0
        print(f"{arch}: side, channels -> filters, kernel/stride, count; library, products (ms)")
        for key, layers in convolutions_of.items():
            side, channels, filters, kernel, stride = key
            if not convolutions.can_be_products(layers[0]):
                continue
            library, products = _time(layers[0])
            used = convolutions.applies_to(layers[0])
            saved += len(layers) * (library - products) if used else 0
            print(
                f"  {side:2} {channels:4} -> {filters:4}  {kernel}x{kernel}/{stride} x{len(layers)}"
                f"  {library:7.2f} {products:7.2f}  {'products' if used else 'library'}",
                flush=True,
            )
        print(f"  the choice saves {saved:.0f} ms a step\n", flush=True)


def _time(layer: keras.layers.Conv2D) -> list[float]:
    """Median milliseconds of the library's convolution and of ours."""
    images = tf.random.stateless_normal((_BATCH, *layer.input.shape[1:]), (0, 0))
    upstream = tf.random.stateless_normal((_BATCH, *layer.output.shape[1:]), (0, 1))

    def passes(convolve: Callable[[Any], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with tf.GradientTape() as tape:
                tape.watch(images)
                outputs = convolve(images)
            wanted = [images, *(v.value for v in layer.trainable_variables)]
            return tape.gradient(outputs, wanted, output_gradients=upstream)

        compiled: Callable[[], Any] = tf.function(run)
        return compiled

    ways = [passes(layer), passes(convolutions.AsProducts(layer))]
    seconds: list[list[float]] = [[], []]
    for _ in range(_ROUNDS + 2):
        for way, times in zip(ways, seconds, strict=True):
            started = time.perf_counter()
            way()
            times.append(time.perf_counter() - started)
    return [1000 * statistics.median(times[2:]) for times in seconds]


if __name__ == "__main__":
    main(sys.argv[1:] or ["vgg16", "resnet50"])
