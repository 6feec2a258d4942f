"""Pictures in, films out: formats, depths and colours, refusals, and the way to the square."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from cxr_core import images
from cxr_core.data import phantom
from cxr_core.errors import UnreadableImageError
from cxr_core.images import raster

# Pillow remarks on damaged files, which are what many of these tests are about.
pytestmark = pytest.mark.filterwarnings("ignore::Warning:PIL")

RAMP = np.add.outer(np.arange(60), 2 * np.arange(80)).astype(np.uint8)  # 0 to 217
COLOUR = cv2.applyColorMap(RAMP, cv2.COLORMAP_JET)  # BGR


def encode(suffix: str, pixels: np.ndarray, options: tuple[int, ...] = ()) -> bytes:
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


def save(picture: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def tiff(pixels: np.ndarray, photometric: int = 1) -> bytes:
    """An uncompressed gray TIFF with a photometric interpretation of one's choice."""
    height, width = pixels.shape
    start, data = 8 + 2 + 9 * 12 + 4, pixels.tobytes()
    entries = [
        (256, 3, width), (257, 3, height), (258, 3, 8 * pixels.dtype.itemsize), (259, 3, 1),
        (262, 3, photometric), (273, 4, start), (277, 3, 1), (278, 3, height), (279, 4, len(data)),
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + directory + bytes(4) + data


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises any size and holds next to nothing."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"")),
        (b"IEND", b""),
    ]
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def refused(source: bytes | Path, name: str = "") -> str:
    with pytest.raises(UnreadableImageError) as error:
        images.read(source, name)
    return str(error.value)


# EXIF's orientation of a picture, and what the picture is once it stands upright.
TURNS = [
    (2, np.fliplr(RAMP)),
    (3, np.rot90(RAMP, 2)),
    (4, np.flipud(RAMP)),
    (5, RAMP.T),
    (6, np.rot90(RAMP, -1)),
    (7, np.rot90(RAMP.T, 2)),
    (8, np.rot90(RAMP)),
]
FITS = ("squash", "letterbox", "crop")


class TestFormats:
    @pytest.mark.parametrize(
        ("suffix", "kind", "tolerance"),
        [
            (".png", "PNG", 0),
            (".bmp", "BMP", 0),
            (".tiff", "TIFF", 0),
            (".jpg", "JPEG", 3),
            (".webp", "WEBP", 6),
        ],
    )
    def test_gray_pictures_come_out_as_stored(self, suffix, kind, tolerance):
        film = images.read(encode(suffix, RAMP), name=f"ramp{suffix}")
        assert (film.format, film.name) == (kind, f"ramp{suffix}")
        assert (film.width, film.height) == (80, 60)
        assert film.pixels.dtype == np.uint8
        assert film.colour == 0
        assert np.abs(film.pixels.astype(int) - RAMP).max() <= tolerance

    @pytest.mark.parametrize(
        ("data", "mode"),
        [
            (encode(".png", RAMP), "gray 8 bit"),
            (encode(".png", RAMP.astype(np.uint16) * 99), "gray 16 bit"),
            (encode(".png", COLOUR), "colour 8 bit"),
            (encode(".png", COLOUR.astype(np.uint16) * 99), "colour 16 bit"),
            (save(Image.fromarray(COLOUR).quantize(16), "PNG"), "palette 8 bit"),
            (save(Image.fromarray(RAMP).convert("LA"), "PNG"), "gray 8 bit with alpha"),
            (save(Image.fromarray(RAMP).convert("1"), "TIFF"), "gray 1 bit"),
            (save(Image.fromarray(RAMP).convert("CMYK"), "JPEG"), "colour 8 bit"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_the_stored_mode_in_words(self, data, mode):
        film = images.read(data)
        assert film.mode == mode
        assert film.pixels.shape == (60, 80)

    def test_a_path_gives_the_name_without_its_folder(self, tmp_path):
        (tmp_path / "film.PNG").write_bytes(encode(".png", RAMP))
        assert images.read(tmp_path / "film.PNG").name == "film.PNG"
        assert images.read(encode(".png", RAMP), name="folder/other.png").name == "other.png"

    def test_a_name_without_a_known_suffix_claims_nothing(self):
        assert images.read(encode(".png", RAMP), name="1.2.840.1").format == "PNG"


class TestDepth:
    def test_sixteen_bits_are_scaled_by_the_films_own_range(self):
        # 12 bits in 16: cutting off the lower byte would leave 16 shades of near-black.
        film = images.read(encode(".png", (RAMP.astype(np.uint16) * 18)))
        expected = RAMP.astype(float) / RAMP.max() * 255
        assert np.abs(film.pixels - expected).max() <= 5  # the cut at both ends
        assert any("own range" in note for note in film.notes)

    def test_a_few_dead_pixels_do_not_set_the_range(self):
        noise = np.random.default_rng(0).normal(2000, 300, (200, 200)).astype(np.uint16)
        noise[0, :10] = 65535
        film = images.read(encode(".png", noise))
        assert 100 < film.pixels[1:].mean() < 155

    def test_rare_values_are_still_seen_where_all_else_is_even(self):
        even = np.full((100, 100), 500, np.uint16)
        even[50, 50] = 900
        assert images.read(encode(".png", even)).pixels[50, 50] == 255

    @pytest.mark.parametrize("kind", [np.float32, np.int32, np.int16])
    def test_other_numbers_in_tiff(self, kind):
        data = encode(".tiff", (RAMP.astype(kind) * 100) - 9000)
        film = images.read(data)
        assert np.abs(film.pixels - RAMP / RAMP.max() * 255.0).max() <= 5  # the cut at both ends

    def test_values_that_are_no_numbers_are_black(self):
        pixels = RAMP.astype(np.float32)
        pixels[30, 40] = np.nan
        assert images.read(encode(".tiff", pixels)).pixels[30, 40] == 0

    @pytest.mark.parametrize("kind", [np.uint8, np.uint16])
    def test_tiff_that_stores_white_as_zero_is_inverted(self, kind):
        stored = RAMP.astype(kind) * (1 if kind == np.uint8 else 257)
        upright = images.read(tiff(stored)).pixels
        film = images.read(tiff(stored, photometric=0))
        np.testing.assert_array_equal(film.pixels, 255 - upright)
        assert any("white as zero" in note for note in film.notes)


class TestColour:
    def test_colour_is_measured_converted_and_noted(self):
        picture = np.zeros((40, 40, 3), np.uint8)
        picture[:] = (40, 100, 160)  # BGR, a spread of 120
        film = images.read(encode(".png", picture))
        assert film.colour == pytest.approx(120)
        assert film.pixels[0, 0] == round(0.114 * 40 + 0.587 * 100 + 0.299 * 160)
        assert any(note.startswith("Colour picture") for note in film.notes)

    def test_the_measure_is_in_gray_levels_at_any_depth(self):
        picture = np.zeros((40, 40, 3), np.uint16)
        picture[:20] = (40 * 257, 100 * 257, 160 * 257)
        assert images.read(encode(".png", picture)).colour == pytest.approx(60)

    def test_gray_stored_as_colour_has_none(self):
        film = images.read(encode(".jpg", cv2.merge((RAMP, RAMP, RAMP))))
        assert film.mode == "colour 8 bit"
        assert film.colour == 0
        assert film.notes == ("A gray film stored in colour.",)

    def test_what_is_transparent_is_black(self):
        picture = cv2.merge((RAMP, RAMP, RAMP, np.full_like(RAMP, 255)))
        picture[:30, :, 3] = 0
        film = images.read(encode(".png", picture))
        assert film.pixels[:30].max() == 0
        np.testing.assert_array_equal(film.pixels[30:], RAMP[30:])
        assert any("Transparent" in note for note in film.notes)

    def test_large_pictures_are_converted_in_blocks_without_a_seam(self):
        large = cv2.resize(COLOUR, (2000, 1500), interpolation=cv2.INTER_LINEAR)
        film = images.read(encode(".bmp", large))
        np.testing.assert_array_equal(film.pixels, cv2.cvtColor(large, cv2.COLOR_BGR2GRAY))
        spread = large.max(axis=2).astype(float) - large.min(axis=2)
        assert film.colour == pytest.approx(spread.mean())


class TestOrientation:
    @pytest.mark.parametrize(("orientation", "upright"), TURNS)
    @pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
    def test_a_picture_is_turned_upright(self, kind, orientation, upright):
        exif = Image.Exif()
        exif[274] = orientation
        options = {"tiffinfo": {274: orientation}} if kind == "TIFF" else {"exif": exif.tobytes()}
        if kind == "WEBP":
            options["lossless"] = True
        film = images.read(save(Image.fromarray(RAMP), kind, **options))
        np.testing.assert_array_equal(film.pixels, upright)
        assert any("orientation" in note for note in film.notes)

    def test_damaged_exif_data_is_no_reason_to_refuse(self):
        data = save(Image.fromarray(RAMP), "PNG", exif=b"Exif\0\0MM\0*\0\0\0\xff")
        np.testing.assert_array_equal(images.read(data).pixels, RAMP)


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "name", "reason"),
        [
            (b"", "empty.png", "empty.png is empty"),
            (b"patient,label\n1,2\n", "table.png", "holds text"),
            (b"\x93\x01\x02" * 99, "noise.png", "no picture that this app knows"),
            (b"%PDF-1.7 ...", "report.pdf", "holds a PDF"),
            (b"GIF89a" + bytes(50), "clip.gif", "holds a GIF"),
            (b"PK\x03\x04" + bytes(50), "films.zip", "holds a zip archive"),
            (b"\0\0\0\x18ftypheic" + bytes(50), "IMG_1.heic", "holds a HEIC picture"),
            (bytes(300), "film.dcm", "is no DICOM file"),
            (encode(".jpg", RAMP), "film.png", "named like a PNG file but holds JPEG"),
            (encode(".png", RAMP), "film.dcm", "named like a DICOM file but holds PNG"),
            (bytes(128) + b"DICM" + bytes(99), "a.jpg", "named like a JPEG file but holds DICOM"),
            (encode(".png", np.zeros((4, 50), np.uint8)), "icon.png", "too small to be a film"),
            (png_header(10_000, 10_000), "huge.png", "10000 x 10000 px, more than 64 megapixels"),
            (png_header(20_000, 20_000), "huge.png", "more than 64 megapixels"),
            (png_header(7_000, 7_000), "bomb.png", "promises 49 megapixels"),
            (b"\x89PNG\r\n\x1a\n" + bytes(30), "film.png", "header cannot be read"),
        ],
    )  # fmt: skip
    def test_what_is_no_film_is_refused_with_its_reason(self, data, name, reason):
        sentence = refused(data, name)
        assert sentence.startswith(f"{name} ")
        assert reason in sentence
        assert sentence.endswith(".")

    def test_bytes_without_a_name(self):
        assert refused(b"").startswith("The file is empty")

    @pytest.mark.parametrize(
        "data",
        [
            pytest.param(encode(".png", RAMP), id="png"),
            pytest.param(encode(".jpg", RAMP), id="jpeg"),
            pytest.param(
                encode(".jpg", COLOUR, (cv2.IMWRITE_JPEG_PROGRESSIVE, 1)), id="progressive"
            ),
            pytest.param(encode(".bmp", RAMP), id="bmp"),
            pytest.param(tiff(RAMP), id="tiff"),
            pytest.param(encode(".webp", RAMP), id="webp"),
        ],
    )
    def test_a_file_cut_off_anywhere_is_refused(self, data):
        for length in {1, 9, len(data) // 3, len(data) // 2, len(data) * 9 // 10, len(data) - 1}:
            refused(data[:length])

    def test_a_download_that_was_never_finished_is_refused(self):
        # Some programs reserve the full length first: the rest is zeros, and decoders fill it gray.
        data = encode(".jpg", RAMP)
        half = len(data) // 2
        assert "cut off" in refused(data[:half] + bytes(len(data) - half))

    def test_a_thumbnail_in_the_header_does_not_pass_for_the_end(self):
        picture = encode(".jpg", RAMP)
        thumbnail = encode(".jpg", RAMP[::4, ::4])
        header = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2) + thumbnail
        whole = picture[:2] + header + picture[2:]
        assert images.read(whole).height == 60
        assert "cut off" in refused(whole[:-30])

    def test_a_flipped_bit_in_the_pixels_of_a_png_is_refused(self):
        data = bytearray(encode(".png", RAMP))
        data[data.index(b"IDAT") + 20] ^= 4
        assert "damaged" in refused(bytes(data))

    @pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
    def test_files_with_several_pictures_are_refused(self, kind):
        film = Image.fromarray(RAMP)
        data = save(film, kind, save_all=True, append_images=[film.rotate(180)])
        assert "several pictures" in refused(data)

    def test_a_path_that_leads_nowhere_or_to_a_folder(self, tmp_path):
        assert refused(tmp_path / "gone.png").startswith("gone.png is not there")
        assert "folder" in refused(tmp_path)

    def test_a_file_too_large_to_load_is_refused_unread(self, tmp_path):
        path = tmp_path / "large.png"
        with path.open("wb") as file:
            file.truncate(images.MAX_BYTES + 1)  # a hole, no real gigabytes
        assert "more than the limit" in refused(path)


class TestSquare:
    SHAPES = ((300, 500), (700, 300), (256, 256), (100, 60), (97, 401), (64, 200))

    @pytest.mark.parametrize("fit", FITS)
    @pytest.mark.parametrize("shape", SHAPES)
    def test_a_point_comes_back_to_where_it_was(self, fit, shape):
        size = 128
        height, width = shape
        # Inside the centre square, which is all that crop sees.
        row, column = round(height / 2 + min(shape) * 0.2), round(width / 2 - min(shape) * 0.3)
        film = np.zeros(shape, np.float32)
        cv2.circle(film, (column, row), 4, 255.0, -1)
        film = cv2.GaussianBlur(film, (0, 0), 3)
        film = (film / film.max() * 255).astype(np.uint8)
        square = images.to_square(film, size, fit)
        assert square.shape == (size, size)
        assert square.dtype == np.uint8
        back = images.from_square(square.astype(np.float32), shape, fit)
        assert back.shape == shape
        assert back.dtype == np.float32
        grid = np.indices(shape)
        centre = (grid * back).sum(axis=(1, 2)) / back.sum()
        assert np.abs(centre - (row, column)).max() < 1
        peak = np.unravel_index(back.argmax(), shape)
        reach = max(1.5, 1.5 * max(shape) / size)  # a pixel of the square, seen on the film
        assert np.abs(np.subtract(peak, (row, column))).max() <= reach

    def test_letterbox_keeps_proportions_and_pads_with_black(self):
        square = images.to_square(np.full((100, 200), 200, np.uint8), 64, "letterbox")
        assert (square[:16] == 0).all()
        assert (square[48:] == 0).all()
        assert (square[16:48] == 200).all()

    def test_crop_sees_the_centre_alone(self):
        film = np.zeros((100, 200), np.uint8)
        film[:, :50] = 255
        assert images.to_square(film, 64, "crop").max() == 0
        back = images.from_square(np.ones((64, 64), np.float32), (100, 200), "crop")
        assert (back[:, :50] == 0).all()
        assert (back[:, 150:] == 0).all()
        np.testing.assert_allclose(back[:, 50:150], 1, atol=1e-6)

    def test_squash_fills_the_square(self):
        assert (images.to_square(np.full((30, 200), 9, np.uint8), 64, "squash") == 9).all()

    @pytest.mark.parametrize("shape", [(640, 640), (640, 32), (32, 640)])
    def test_shrinking_averages_over_areas(self, shape):
        # Single lines of a checkerboard would alias under plain sampling.
        board = (np.indices(shape).sum(axis=0) % 2 * 255).astype(np.uint8)
        square = images.to_square(board, 64, "squash")
        assert np.abs(square.astype(int) - 128).max() <= 4

    def test_a_map_keeps_its_scale(self):
        heat = np.random.default_rng(0).random((64, 64)).astype(np.float32) * 7
        back = images.from_square(heat, (300, 200), "squash")
        assert back.mean() == pytest.approx(heat.mean(), rel=0.02)
        assert back.max() <= heat.max() + 1e-5

    def test_a_film_of_the_squares_size_is_copied_unchanged(self):
        film = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
        for fit in FITS:
            square = images.to_square(film, 64, fit)
            np.testing.assert_array_equal(square, film)
            assert not np.shares_memory(square, film)

    def test_another_word_for_fit_is_an_error(self):
        with pytest.raises(ValueError, match="squash, letterbox or crop"):
            images.to_square(RAMP, 64, "stretch")


class TestEqualisation:
    FLAT = np.add.outer(np.arange(200), np.arange(300)).astype(np.float32) / 500 * 40 + 100

    @pytest.mark.parametrize("fit", FITS)
    def test_it_spreads_gray_levels_and_the_more_the_higher_the_limit(self, fit):
        film = self.FLAT.astype(np.uint8)
        spreads = [
            images.to_square(film, 64, fit, clahe)[20:44, 20:44].std() for clahe in (0, 2, 10)
        ]
        assert spreads[0] < spreads[1] < spreads[2]

    def test_none_is_the_default(self):
        film = self.FLAT.astype(np.uint8)
        plain = images.to_square(film, 64, "squash")
        np.testing.assert_array_equal(plain, images.to_square(film, 64, "squash", 0.0))

    def test_a_letterboxs_bars_stay_black_and_change_nothing_beside_them(self):
        film = self.FLAT.astype(np.uint8)[:100, :200]
        square = images.to_square(film, 64, "letterbox", 4)
        assert (square[:16] == 0).all()
        assert (square[48:] == 0).all()
        alone = cv2.resize(film, (64, 32), interpolation=cv2.INTER_AREA)
        expected = cv2.createCLAHE(4, (8, 8)).apply(alone)
        np.testing.assert_array_equal(square[16:48], expected)

    @pytest.mark.parametrize("shape", [(8, 60), (60, 8), (2000, 9)])
    def test_a_film_of_few_rows_is_equalised_too(self, shape):
        film = np.random.default_rng(0).integers(100, 140, shape, dtype=np.uint8)
        assert images.to_square(film, 32, "letterbox", 2).max() > 0


@pytest.fixture(scope="module")
def large() -> list[np.ndarray]:
    """Phantoms of sides that no block of a JPEG divides."""
    return [
        phantom.draw("PNEUMONIA", np.random.default_rng(seed), size=size).pixels
        for seed, size in enumerate([(1101, 1207), (1283, 999)])
    ]


class TestReadingStraightToTheSquare:
    """`read_square` against `read` and `to_square`, which diagnosis goes by."""

    @pytest.mark.parametrize("size", [240, 110, 62])  # decoded at a half, a quarter, an eighth
    @pytest.mark.parametrize("fit", ["squash", "letterbox"])
    @pytest.mark.parametrize("colour", [False, True])
    def test_a_large_jpeg_is_decoded_smaller_and_looks_the_same(
        self, large, size, fit, colour, monkeypatch
    ):
        for film in large:
            picture = film
            if colour:
                picture = cv2.merge([film // 2 + 60, film, cv2.subtract(film, 30)])
            data = encode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 85))
            full = images.to_square(images.read(data).pixels, size, fit)
            with monkeypatch.context() as patch:
                patch.setattr(raster, "read", lambda *_: pytest.fail("was decoded whole"))
                reduced = images.read_square(data, size=size, fit=fit)
            difference = np.abs(full.astype(int) - reduced)
            assert difference.mean() < 0.7
            assert np.percentile(difference, 99) <= 4
            # Shifted by a quarter of a pixel, the two would differ in the mean along an edge.
            assert abs(full[:, -4:].mean() - reduced[:, -4:].mean()) < 1
            assert ((full == 0).all(axis=1) == (reduced == 0).all(axis=1)).all()  # the same bars

    def test_equalisation_comes_after_it(self, large):
        data = encode(".jpg", large[0], (cv2.IMWRITE_JPEG_QUALITY, 85))
        plain = images.read_square(data, size=110, fit="squash")
        expected = images.to_square(plain, 110, "squash", 3)
        seen = images.read_square(data, size=110, fit="squash", clahe=3)
        np.testing.assert_array_equal(seen, expected)

    @pytest.mark.parametrize("orientation", [1, 3, 6, 8])
    def test_the_orientation_tag_is_obeyed(self, large, orientation):
        exif = Image.Exif()
        exif[274] = orientation
        data = save(Image.fromarray(large[0]), "JPEG", quality=85, exif=exif.tobytes())
        upright = images.to_square(images.read(data).pixels, 62, "letterbox")
        seen = images.read_square(data, size=62, fit="letterbox")
        assert np.abs(upright.astype(int) - seen).mean() < 0.7

    @pytest.mark.parametrize(
        ("suffix", "size", "fit"),
        [(".jpg", 300, "squash"), (".jpg", 64, "crop"), (".png", 64, "squash")],
        ids=["not large enough", "centre square", "no JPEG"],
    )
    def test_all_others_are_the_very_pixels(self, large, suffix, size, fit):
        data = encode(suffix, large[0])
        expected = images.to_square(images.read(data).pixels, size, fit)
        np.testing.assert_array_equal(images.read_square(data, size=size, fit=fit), expected)

    def test_cmyk_is_read_whole(self, large):
        picture = Image.fromarray(large[0]).convert("CMYK")
        data = save(picture, "JPEG", quality=85)
        expected = images.to_square(images.read(data).pixels, 62, "squash")
        np.testing.assert_array_equal(images.read_square(data, size=62, fit="squash"), expected)

    def test_a_large_jpeg_cut_off_is_refused(self, large):
        data = encode(".jpg", large[0])
        with pytest.raises(UnreadableImageError, match="cut off"):
            images.read_square(data[: len(data) // 2], size=62, fit="squash")


@pytest.mark.real_data
def test_real_films_are_read_without_a_remark(real_data):
    paths = sorted((real_data / "native").glob("*/*.jpeg"))
    assert len(paths) == 80
    for path in paths:
        film = images.read(path)
        assert film.format == "JPEG"
        assert film.colour < 1
        assert 40 < film.pixels.mean() < 200
        assert min(film.width, film.height) > 100


@pytest.mark.real_data
def test_real_films_decoded_at_a_reduced_scale_are_within_a_gray_level(real_data):
    for path in sorted((real_data / "native").glob("*/*.jpeg")):
        film = images.read(path).pixels
        for size in (96, 224):
            full = images.to_square(film, size, "squash").astype(int)
            reduced = images.read_square(path, size=size, fit="squash")
            assert np.abs(full - reduced).mean() < 1
