"""The results that the study published, as it printed them.

Source: A. Hasan, "Deeper Networks For Image Classification", 2020, its two result tables. Train
is the last epoch, with dropout and augmentation on; test is MNIST's 10,000 test images.
"""

from typing import NamedTuple


class Published(NamedTuple):
    """A row of the study's tables; None where it gives no number."""

    accuracy: float
    loss: float
    test_accuracy: float | None
    test_loss: float | None


# (arch, optimizer, weights, epochs)
RESULTS = {
    ("vgg16", "adam", "random", 15): Published(0.9872, 0.0399, 0.9924, 0.0243),
    ("vgg16", "sgd", "random", 15): Published(0.9884, 0.0371, 0.9914, 0.0258),
    ("vgg16", "adam", "imagenet", 15): Published(0.9857, 0.0658, 0.9807, 0.1523),
    ("vgg16", "sgd", "imagenet", 15): Published(0.9977, 0.0076, 0.9969, 0.0116),
    ("resnet50", "adam", "random", 15): Published(0.9669, 0.1272, 0.9840, 0.0501),
    ("resnet50", "sgd", "random", 15): Published(0.9335, 0.3346, 0.9711, 0.0945),
    ("resnet50", "adam", "imagenet", 15): Published(0.9688, 0.1466, 0.9608, 0.6885),
    ("resnet50", "sgd", "imagenet", 15): Published(0.9247, 0.3370, 0.9692, 0.1058),
    ("resnet50", "sgd", "random", 50): Published(0.9739, 0.0835, None, None),
}
