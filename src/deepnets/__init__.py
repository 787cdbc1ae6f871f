"""Deeper Networks For Image Classification, reproduced: VGG-16 and ResNet50 on MNIST."""
