"""The networks that can be trained; importing this package registers them, without TensorFlow."""

from cxr_core.zoo import efficientnet_lite, plain_cnn

__all__ = ["efficientnet_lite", "plain_cnn"]
