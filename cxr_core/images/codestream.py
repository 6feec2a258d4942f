"""Reads JPEG-family data without decoding it: the shape it claims, and whether it is whole.

Sources: ITU-T T.81 annex B (JPEG), T.87 annex C (JPEG-LS), T.800 annex A (JPEG 2000).
"""

from collections.abc import Iterator

_START_OF_SCAN = 0xDA
_STANDALONE = {0x01, *range(0xD0, 0xD9)}
# SOF0-SOF15 without DHT, JPG and DAC, which lie between them, and SOF55 of JPEG-LS.
_FRAME_HEADERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_JPEG_2000 = b"\xff\x4f\xff\x51"  # start of codestream, then its SIZ segment


def shape(data: bytes) -> tuple[int, int, int] | None:
    """Return the (height, width, components) it will decode to, None where it has no header."""
    begin = data.find(_JPEG_2000, 0, 4096)  # within JP2 boxes it is not at the start
    if begin >= 0:
        right, bottom, left, top = (
            int.from_bytes(data[begin + at : begin + at + 4]) for at in (8, 12, 16, 20)
        )
        components = int.from_bytes(data[begin + 40 : begin + 42])
        return bottom - top, right - left, components
    for marker, at, _ in _segments(data):
        if marker in _FRAME_HEADERS:
            height = int.from_bytes(data[at + 1 : at + 3])
            width = int.from_bytes(data[at + 3 : at + 5])
            return height, width, int.from_bytes(data[at + 5 : at + 6])
    return None


def jpeg_is_whole(data: bytes) -> bool:
    """Whether a JPEG goes on to its end-of-image marker.

    Decoders fill what a cut-off file lacks with gray, silently. The marker is sought behind the
    first scan, since a thumbnail in the header has one of its own.
    """
    scans = [end for marker, _, end in _segments(data) if marker == _START_OF_SCAN]
    return bool(scans) and data.find(b"\xff\xd9", scans[0]) >= 0


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Walk a JPEG's (marker, start of content, end of content), up to the first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _STANDALONE:
            at += 2
        else:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
            yield marker, at + 4, end
            if marker == _START_OF_SCAN:
                return
            at = end
