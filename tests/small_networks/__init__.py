"""Small networks in the place of the study's: the same kinds of layers, far fewer weights.

The modules are entries as those in networks/architectures/, which they replace in a clone.
"""

from small_networks import resnet50, vgg16

ENTRIES = {"vgg16": vgg16.ARCHITECTURE, "resnet50": resnet50.ARCHITECTURE}
