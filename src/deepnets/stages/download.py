"""Fetch the study's data set: from its mirrors, or from the package that ships it.

Whatever container they come in, data/raw holds four plain .npy arrays, so that what follows
does not depend on it.
"""

from deepnets.base import files, project
from deepnets.config import params
from deepnets.data import sources


def main() -> None:
    """Write data/raw, unless it holds the right arrays already."""
    source = params.load().download.source
    target = project.RAW
    files.require_room(target, 120 * 2**20, "the raw digits")
    arrays = sources.load(source, [target, project.root() / project.RAW])
    paths = {target / f"{name}.npy": array for name, array in arrays.items()}
    for path, array in paths.items():
        files.write_array(path, array)
    files.seal(*paths)
    train, test = len(arrays["train_labels"]), len(arrays["test_labels"])
    print(f"{train:,} training and {test:,} test digits in {target}")
