"""CXR Studio's core: from a folder of chest X-rays to a model one can question.

Runs without a browser; the Streamlit app and the command line are two ways to call it.
For research and teaching, not for clinical use.
"""

import os

# TensorFlow else takes a GPU's whole memory at its first use, and the app, which judges films, and
# a training, a process of its own, share one. Before TensorFlow is imported.
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

__version__ = "0.1.0"

NOT_FOR_CLINICAL_USE = "For research and teaching. Not a medical device, not for clinical use."
