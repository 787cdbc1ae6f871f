"""Each convolution of both networks: the library's kernels, plain matrix products, Winograd's way.

    python benchmarks/layers.py [ARCH ...]

Forward and both gradients together, batch 32, in turns; medians in milliseconds. The last column
says which of them training uses (deepnets.networks.convolutions, deepnets.networks.winograd).
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

from deepnets.networks import convolutions, models, views, winograd  # noqa: E402

_BATCH = 32
_ROUNDS = 15
_WAYS = ("library", "products", "winograd")
# The ways by what training puts in a layer's place.
_USED = {type(None): "library", convolutions.AsProducts: "products", winograd.Winograd: "winograd"}


def main(archs: list[str]) -> None:
    """Print a line for each different convolution of `archs`, and what the choice is worth."""
    stand_in = views._stand_in()
    for arch in archs:
        classifier = models.build(arch, 32, 0.5)
        convolutions_of: dict[tuple[Any, ...], list[keras.layers.Conv2D]] = {}
        for layer in classifier.get_layer(arch).layers:
            if isinstance(layer, keras.layers.Conv2D) and layer.kernel.shape[2] > 3:
                side, channels = layer.input.shape[1], layer.input.shape[3]
                key = (side, channels, layer.filters, layer.kernel_size[0], layer.strides[0])
                convolutions_of.setdefault(key, []).append(layer)
        saved = 0.0
        print(f"{arch}: side, channels -> filters, kernel/stride, count; ms by {', '.join(_WAYS)}")
        for key, layers in convolutions_of.items():
            side, channels, filters, kernel, stride = key
            layer = layers[0]
            ways = {"library": layer}
            if convolutions.can_be_products(layer):
                ways["products"] = convolutions.AsProducts(layer)
            if winograd.can_be_filtered(layer):
                ways["winograd"] = winograd.Winograd(layer)
            if len(ways) == 1:
                continue
            used = _USED[type(stand_in(layer) if stand_in else None)]
            milliseconds = _time(layer, ways)
            saved += len(layers) * (milliseconds["library"] - milliseconds[used])
            figures = " ".join(
                f"{milliseconds[way]:7.2f}" if way in ways else 7 * " " for way in _WAYS
            )
            print(
                f"  {side:2} {channels:4} -> {filters:4}  {kernel}x{kernel}/{stride} x{len(layers)}"
                f"  {figures}  {used}",
                flush=True,
            )
        print(f"  the choice saves {saved:.0f} ms a step\n", flush=True)


def _time(layer: keras.layers.Conv2D, ways: dict[str, Callable[[Any], Any]]) -> dict[str, float]:
    """Median milliseconds of `layer` computed by each of `ways`."""
    images = tf.random.stateless_normal((_BATCH, *layer.input.shape[1:]), (0, 0))
    upstream = tf.random.stateless_normal((_BATCH, *layer.output.shape[1:]), (0, 1))

    def passes(convolve: Callable[[Any], Any]) -> Callable[[], Any]:
        def run() -> Any:
            with tf.GradientTape() as tape:
                tape.watch(images)
                outputs = convolve(images)
            wanted = [images, *(v.value for v in layer.trainable_variables)]
            return outputs, tape.gradient(outputs, wanted, output_gradients=upstream)

        compiled: Callable[[], Any] = tf.function(run)
        return compiled

    compiled = {name: passes(way) for name, way in ways.items()}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(_ROUNDS + 2):
        for name, way in compiled.items():
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    return {name: 1000 * statistics.median(times[2:]) for name, times in seconds.items()}


if __name__ == "__main__":
    main(sys.argv[1:] or ["vgg16", "resnet50"])
