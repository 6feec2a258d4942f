"""The networks that can be trained; importing this package registers them, without TensorFlow."""

from cxr_core.zoo import applications, deep_cnn, efficientnet_lite, plain_cnn

__all__ = ["applications", "deep_cnn", "efficientnet_lite", "plain_cnn"]
