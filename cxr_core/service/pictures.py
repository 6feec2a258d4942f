"""A film with its heat map as PNG, which says what it shows and what it is not for."""

import io

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cxr_core.diagnosis import scoring
from cxr_core.diagnosis.scoring import Scored
from cxr_core.service.uploads import Upload


def png(upload: Upload, found: Scored) -> bytes:
    """Return a film at its own size with its heat map, for threads.

    Args:
        upload: the film.
        found: what the model says of it, with a heat map.

    Raises:
        UnreadableImageError: as for `images.read`.
    """
    answer = found.diagnosis
    assert answer is not None and answer.heatmap is not None
    text = PngInfo()
    # Keywords of the PNG specification (11.3.3.2).
    text.add_itxt(
        "Description",
        f"{answer.heatmap.title} for {answer.heatmap.target} by {answer.bundle} ({found.model})",
    )
    text.add_itxt("Disclaimer", found.as_json()["note"])
    file = io.BytesIO()
    shown = scoring.drawn(upload.data, answer.heatmap, upload.name)
    Image.fromarray(shown).save(file, "PNG", pnginfo=text)
    return file.getvalue()
