"""MNIST, from the mirrors that Keras, TensorFlow Datasets and torchvision use."""

from deepnets.config.registry import DataSet

DATASET = DataSet(
    title="MNIST",
    train_images=60_000,
    test_images=10_000,
    addresses=(
        "https://storage.googleapis.com/tensorflow/tf-keras-datasets",
        "https://storage.googleapis.com/cvdf-datasets/mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist",
    ),
    sha256={
        "train_images": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
        "train_labels": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        "test_images": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
        "test_labels": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
    },
)
