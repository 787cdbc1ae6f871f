"""The study's own method: Keras `fit` on an ImageDataGenerator, the environment as installed.

python benchmarks/stock.py ARCH OPTIMIZER
"""

import sys
import time
from typing import Any

import keras
from keras.src.legacy.preprocessing.image import ImageDataGenerator

from common import BATCH, SIZE, digits, recipe, serve

# What the study's code does to the digits before they reach the network.
_RANGES = {"vgg16": lambda x: x / 127.5 - 1, "resnet50": lambda x: x / 255}
_NETWORKS = {"vgg16": keras.applications.VGG16, "resnet50": keras.applications.ResNet50}


def main(arch: str, optimizer: str) -> None:
    """Serve training steps of `arch` with `optimizer`."""
    run = recipe(arch, optimizer)
    backbone = _NETWORKS[arch](include_top=False, weights=None, input_shape=(SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    x = keras.layers.Dropout(run.dropout)(x)
    x = keras.layers.Dense(10, activation="softmax")(x)
    model = keras.Model(backbone.input, x)
    if optimizer == "adam":
        rule = keras.optimizers.Adam(run.learning_rate)
    else:
        schedule = keras.optimizers.schedules.InverseTimeDecay(run.learning_rate, 1, run.decay)
        rule = keras.optimizers.SGD(schedule, momentum=run.flat["momentum"])
    model.compile(rule, "categorical_crossentropy", metrics=["accuracy"])

    images, labels = digits(5000)
    generator = ImageDataGenerator(
        rotation_range=run.augment_rotation,
        width_shift_range=run.augment_shift,
        height_shift_range=run.augment_shift,
        zoom_range=run.augment_zoom,
    )
    pixels = _RANGES[arch](images.astype("float32"))
    flow = generator.flow(pixels, keras.utils.to_categorical(labels, 10), batch_size=BATCH)

    def train(steps: int) -> float:
        watch = _Watch()
        # The first step is not counted: `fit` makes its iterator anew at each call.
        model.fit(flow, steps_per_epoch=steps + 1, epochs=1, verbose=0, callbacks=[watch])
        return watch.ends[-1] - watch.ends[0]

    serve(train)


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """The times at which batches end."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        self.ends.append(time.perf_counter())


if __name__ == "__main__":
    main(*sys.argv[1:])
