"""The ways to compute a heat map, and what each of them shows."""

from dataclasses import dataclass

DEFAULT = "grad_cam"


@dataclass(frozen=True)
class Method:
    """One way to compute a heat map."""

    title: str
    words: str  # what is bright in its maps, a sentence
    unit: str  # of its raw values
    source: str  # who described it
    slow: bool = False  # many passes through the network: work for the background
    in_logits: bool = False  # whether a map adds up to about what its layer gives to the logit
    at_layer: bool = True  # whether it looks at a layer's feature maps; else at the film's pixels


METHODS = {
    DEFAULT: Method(
        "Grad-CAM",
        "Bright where the network found what, on average over the film, raises the score.",
        "logits a cell",
        "Selvaraju and others 2017, arXiv 1610.02391",
        in_logits=True,
    ),
    "hires_cam": Method(
        "HiResCAM",
        "Bright where the network found what raises the score at that very place.",
        "logits a cell",
        "Draelos and Carin 2020, arXiv 2011.08891",
        in_logits=True,
    ),
    "grad_cam_pp": Method(
        "Grad-CAM++",
        "As Grad-CAM, but only what raises the score counts, so that several places can be bright.",
        "logits a cell, counting only what speaks for the class",
        "Chattopadhay and others 2018, arXiv 1710.11063",
    ),
    "layer_cam": Method(
        "Layer-CAM",
        "As HiResCAM, but only what raises the score counts; keeps detail at fine layers.",
        "logits a cell, counting only what speaks for the class",
        "Jiang and others 2021, doi 10.1109/TIP.2021.3089943",
    ),
    "score_cam": Method(
        "Score-CAM",
        "Bright where feature maps lie that, laid over the film as masks, keep the score up.",
        "mean activation",
        "Wang and others 2020, arXiv 1910.01279",
        slow=True,
    ),
    "smooth_grad": Method(
        "SmoothGrad",
        "Bright where a small change of the pixels would change the score most, up or down.",
        "logits a gray level",
        "Smilkov and others 2017, arXiv 1706.03825",
        slow=True,
        at_layer=False,
    ),
}
