"""DICOM films: every kind of file on hand, the gray pipeline in numbers, and what is not kept."""

import io
import logging
import warnings
import zlib
from pathlib import Path
from typing import Any

import cv2
import data_store
import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom import Dataset, Sequence, uid
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate

from cxr_core import images
from cxr_core.errors import UnreadableImageError

# Not the reader's but the tests' own use of pydicom: odd files are what they are about.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

FOLDERS = [
    Path(pydicom.data.__file__).parent / "test_files",
    Path(data_store.__path__[0]) / "data",
]
# A film's bits, width and height; or what the refusal says.
Outcome = tuple[int, int, int] | str
NO_PICTURE = "holds no picture"
RGB = "in colour (RGB)"
YBR = "in colour (YBR"
PALETTE = "in colour (PALETTE COLOR)"
CUT_OFF = "is cut off: part of its pixel data is missing"
UNDESCRIBED = "does not say how its pixels are stored"
MISFIT = "its compressed picture does not fit its header"
UNDECODABLE = "is damaged, or compressed in a way that this app cannot decode"
NO_DICOM = "is no DICOM file"

# Every file of pydicom and pydicom-data, by transfer syntax.
OUTCOMES: dict[str | None, dict[str, Outcome]] = {
    uid.ImplicitVRLittleEndian: {
        "MR_small_implicit.dcm": (16, 64, 64),
        "SC_rgb_jpeg_dcmd.dcm": RGB,
        "empty_charset_LEI.dcm": NO_PICTURE,
        "gdcm-US-ALOKA-16.dcm": PALETTE,
        "nested_priv_SQ.dcm": UNDESCRIBED,
        "no_meta_group_length.dcm": NO_PICTURE,
        "priv_SQ.dcm": NO_PICTURE,
        "rtdose.dcm": "15 frames",
        "rtdose_1frame.dcm": "32 bits a pixel",
        "rtplan.dcm": NO_PICTURE,
        "rtplan_truncated.dcm": NO_PICTURE,
    },
    uid.ExplicitVRLittleEndian: {
        "693_UNCI.dcm": (14, 512, 512),
        "693_UNCR.dcm": (14, 512, 512),
        "CT_small.dcm": (16, 128, 128),
        "JPEG2000_UNC.dcm": (16, 256, 1024),
        "MR-SIEMENS-DICOM-WithOverlays.dcm": (12, 484, 484),
        "MR2_UNCI.dcm": (12, 1024, 1024),
        "MR2_UNCR.dcm": (12, 1024, 1024),
        "MR_small.dcm": (16, 64, 64),
        "MR_small_padded.dcm": (16, 64, 64),
        "MR_truncated.dcm": CUT_OFF,
        "OBXXXX1A.dcm": PALETTE,
        "OBXXXX1A_2frame.dcm": "2 frames",
        "RG1_UNCI.dcm": (15, 1841, 1955),
        "RG1_UNCR.dcm": (15, 1841, 1955),
        "RG3_UNCI.dcm": (10, 1760, 1760),
        "RG3_UNCR.dcm": (10, 1760, 1760),
        "SC_rgb.dcm": RGB,
        "SC_rgb_16bit.dcm": RGB,
        "SC_rgb_16bit_2frame.dcm": "2 frames",
        "SC_rgb_2frame.dcm": "2 frames",
        "SC_rgb_32bit.dcm": RGB,
        "SC_rgb_32bit_2frame.dcm": "2 frames",
        "SC_rgb_dcmtk_ebcr_dcmd.dcm": RGB,
        "SC_rgb_dcmtk_ebcyn1_dcmd.dcm": RGB,
        "SC_rgb_dcmtk_ebcyn2_dcmd.dcm": RGB,
        "SC_rgb_dcmtk_ebcynp_dcmd.dcm": RGB,
        "SC_rgb_dcmtk_ebcys2_dcmd.dcm": RGB,
        "SC_rgb_dcmtk_ebcys4_dcmd.dcm": RGB,
        "SC_rgb_gdcm2k_uncompressed.dcm": RGB,
        "SC_rgb_small_odd.dcm": RGB,
        "SC_ybr_full_422_uncompressed.dcm": YBR,
        "SC_ybr_full_uncompressed.dcm": YBR,
        "US1_UNCI.dcm": RGB,
        "US1_UNCR.dcm": RGB,
        "badVR.dcm": "32 bits a pixel",
        "color-pl.dcm": RGB,
        "color-px.dcm": RGB,
        "eCT_Supplemental.dcm": "2 frames",
        "emri_small.dcm": "10 frames",
        "examples_overlay.dcm": (12, 484, 300),
        "examples_palette.dcm": PALETTE,
        "examples_rgb_color.dcm": RGB,
        "liver.dcm": "3 frames",
        "liver_1frame.dcm": "1 bits a pixel",
        "mlut_18.dcm": (12, 512, 512),
        "reportsi.dcm": NO_PICTURE,
        "reportsi_with_empty_number_tags.dcm": NO_PICTURE,
        "test-SR.dcm": NO_PICTURE,
        "vlut_04.dcm": (8, 512, 512),
        "waveform_ecg.dcm": NO_PICTURE,
    },
    uid.ExplicitVRBigEndian: {
        "ExplVR_BigEnd.dcm": RGB,
        "MR_small_bigendian.dcm": (16, 64, 64),
        "MR_small_expb.dcm": (16, 64, 64),
        "OBXXXX1A_expb.dcm": PALETTE,
        "OBXXXX1A_expb_2frame.dcm": "2 frames",
        "SC_rgb_expb.dcm": RGB,
        "SC_rgb_expb_16bit.dcm": RGB,
        "SC_rgb_expb_16bit_2frame.dcm": "2 frames",
        "SC_rgb_expb_2frame.dcm": "2 frames",
        "SC_rgb_expb_32bit.dcm": RGB,
        "SC_rgb_expb_32bit_2frame.dcm": "2 frames",
        "SC_rgb_small_odd_big_endian.dcm": RGB,
        "emri_small_big_endian.dcm": "10 frames",
        "gdcm-US-ALOKA-16_big.dcm": PALETTE,
        "liver_expb.dcm": "3 frames",
        "liver_expb_1frame.dcm": "1 bits a pixel",
        "rtdose_expb.dcm": "15 frames",
        "rtdose_expb_1frame.dcm": "32 bits a pixel",
    },
    uid.DeflatedExplicitVRLittleEndian: {
        "image_dfl.dcm": (8, 512, 512),
    },
    uid.RLELossless: {
        "MR_small_RLE.dcm": (16, 64, 64),
        "OBXXXX1A_rle.dcm": PALETTE,
        "OBXXXX1A_rle_2frame.dcm": "2 frames",
        "SC_rgb_rle.dcm": RGB,
        "SC_rgb_rle_16bit.dcm": RGB,
        "SC_rgb_rle_16bit_2frame.dcm": "2 frames",
        "SC_rgb_rle_2frame.dcm": "2 frames",
        "SC_rgb_rle_32bit.dcm": RGB,
        "SC_rgb_rle_32bit_2frame.dcm": "2 frames",
        "emri_small_RLE.dcm": "10 frames",
        "rtdose_rle.dcm": "15 frames",
        "rtdose_rle_1frame.dcm": "32 bits a pixel",
    },
    uid.JPEG2000: {
        "693_J2KI.dcm": (14, 512, 512),
        "JPEG2000-embedded-sequence-delimiter.dcm": MISFIT,
        "JPEG2000.dcm": (16, 256, 1024),
        "MR2_J2KI.dcm": (12, 1024, 1024),
        "RG1_J2KI.dcm": (15, 1841, 1955),
        "RG3_J2KI.dcm": (10, 1760, 1760),
        "SC_rgb_gdcm_KY.dcm": RGB,
        "US1_J2KI.dcm": YBR,
    },
    uid.JPEG2000Lossless: {
        "693_J2KR.dcm": (16, 512, 512),
        "GDCMJ2K_TextGBR.dcm": YBR,
        "J2K_pixelrep_mismatch.dcm": (13, 512, 512),
        "MR2_J2KR.dcm": (12, 1024, 1024),
        "MR_small_jp2klossless.dcm": (16, 64, 64),
        "RG1_J2KR.dcm": (15, 1841, 1955),
        "RG3_J2KR.dcm": (10, 1760, 1760),
        "US1_J2KR.dcm": YBR,
        "emri_small_jpeg_2k_lossless.dcm": "10 frames",
        "emri_small_jpeg_2k_lossless_too_short.dcm": NO_PICTURE,
        "examples_jpeg2k.dcm": YBR,
        "explicit_VR-UN.dcm": (16, 512, 512),
    },
    uid.JPEGExtended12Bit: {
        "JPEG-lossy.dcm": UNDECODABLE,
        "JPGExtended.dcm": (12, 256, 1024),
    },
    uid.JPEGLSNearLossless: {
        "JPEGLSNearLossless_08.dcm": (8, 10, 45),
        "JPEGLSNearLossless_16.dcm": (16, 10, 50),
        "SC_rgb_jls_lossy_line.dcm": RGB,
        "SC_rgb_jls_lossy_sample.dcm": RGB,
    },
    uid.JPEGLSLossless: {
        "MR_small_jpeg_ls_lossless.dcm": (16, 64, 64),
        "emri_small_jpeg_ls_lossless.dcm": "10 frames",
    },
    uid.JPEGBaseline8Bit: {
        "SC_jpeg_no_color_transform.dcm": RGB,
        "SC_jpeg_no_color_transform_2.dcm": RGB,
        "SC_rgb_dcmtk_+eb+cr.dcm": RGB,
        "SC_rgb_dcmtk_+eb+cy+n1.dcm": YBR,
        "SC_rgb_dcmtk_+eb+cy+n2.dcm": YBR,
        "SC_rgb_dcmtk_+eb+cy+np.dcm": YBR,
        "SC_rgb_dcmtk_+eb+cy+s2.dcm": YBR,
        "SC_rgb_dcmtk_+eb+cy+s4.dcm": YBR,
        "SC_rgb_jpeg.dcm": RGB,
        "SC_rgb_jpeg_app14_dcmd.dcm": RGB,
        "SC_rgb_jpeg_dcmtk.dcm": YBR,
        "SC_rgb_jpeg_lossy_gdcm.dcm": YBR,
        "SC_rgb_small_odd_jpeg.dcm": YBR,
        "color3d_jpeg_baseline.dcm": "120 frames",
        "examples_ybr_color.dcm": "30 frames",
    },
    uid.JPEGLosslessSV1: {
        "JPEG-LL.dcm": (16, 256, 1024),
        "JPGLosslessP14SV1_1s_1f_8b.dcm": (8, 1024, 768),
        "SC_rgb_jpeg_gdcm.dcm": RGB,
        "UN_sequence.dcm": NO_PICTURE,
        "bad_sequence.dcm": (12, 512, 512),
    },
    None: {
        "ExplVR_BigEndNoMeta.dcm": NO_PICTURE,
        "ExplVR_LitEndNoMeta.dcm": NO_PICTURE,
        "OT-PAL-8-face.dcm": PALETTE,
        "meta_missing_tsyntax.dcm": UNDESCRIBED,
        "no_meta.dcm": NO_DICOM,
        "rtstruct.dcm": NO_PICTURE,
    },
}
TABLE = [(syntax, name, out) for syntax, files in OUTCOMES.items() for name, out in files.items()]


def locate(name: str) -> Path:
    return next(folder / name for folder in FOLDERS if (folder / name).is_file())


def dicom(
    pixels: np.ndarray | bytes, syntax: str = uid.ExplicitVRLittleEndian, **values: Any
) -> bytes:
    """A DICOM file in memory: gray, unsigned, all bits used, unless ``values`` says otherwise."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = uid.DigitalXRayImageStorageForPresentation
    dataset.SOPInstanceUID = "1.2.3.4"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    if isinstance(pixels, bytes):
        dataset.PixelData = encapsulate([pixels])
    else:
        dataset.Rows, dataset.Columns = pixels.shape
        dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
        dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
        dataset.PixelData = pixels.tobytes()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.HighBit = dataset.BitsStored - 1
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def lut(data: list[int], first: int = 0, bits: int = 16) -> Sequence:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(data), first, bits])
    item.add_new("LUTData", "US", data)
    return Sequence([item])


def steps(values: list[int], kind: Any = np.uint16) -> np.ndarray:
    """An 8 px high picture with a column of 4 px for every value."""
    return np.repeat(np.tile(np.array(values, kind), (8, 1)), 4, axis=1)


def grays(data: bytes) -> list[int]:
    """The gray of every column of a picture made by ``steps``."""
    return [int(gray) for gray in images.read(data).pixels[0, ::4]]


def refused(data: bytes | Path, name: str = "") -> str:
    with pytest.raises(UnreadableImageError) as error:
        images.read(data, name)
    return str(error.value)


@pytest.mark.parametrize(("syntax", "name", "outcome"), TABLE, ids=[name for _, name, _ in TABLE])
def test_every_kind_of_dicom_file_is_read_or_refused_with_its_reason(syntax, name, outcome):
    path = locate(name)
    meta = pydicom.dcmread(path, force=True, specific_tags=["Rows"]).file_meta
    assert meta.get("TransferSyntaxUID") == syntax
    if isinstance(outcome, str):
        reason = refused(path)
        assert reason.startswith(f"{name} ")
        assert outcome in reason
    else:
        film = images.read(path)
        assert film.format == "DICOM"
        assert (film.mode, film.width, film.height) == (f"gray {outcome[0]} bit", *outcome[1:])
        assert film.pixels.dtype == np.uint8
        assert np.ptp(film.pixels) > 40  # a picture, not an even gray


def test_the_table_leaves_no_file_out():
    on_disk = {path.name for folder in FOLDERS for path in folder.glob("*.dcm")}
    assert on_disk == {name for _, name, _ in TABLE}


@pytest.mark.parametrize(
    ("original", "compressed"),
    [
        ("MR_small.dcm", "MR_small_RLE.dcm"),
        ("MR_small.dcm", "MR_small_jp2klossless.dcm"),
        ("MR_small.dcm", "MR_small_jpeg_ls_lossless.dcm"),
        ("MR_small.dcm", "MR_small_bigendian.dcm"),
        ("MR_small.dcm", "MR_small_implicit.dcm"),
        ("RG1_UNCR.dcm", "RG1_J2KR.dcm"),
    ],
)
def test_lossless_compression_changes_nothing(original, compressed):
    first, second = images.read(locate(original)), images.read(locate(compressed))
    np.testing.assert_array_equal(first.pixels, second.pixels)


def test_a_chest_film_shows_bone_white_and_lung_dark():
    film = images.read(locate("RG1_UNCR.dcm"))
    assert any("MONOCHROME1" in note for note in film.notes)
    spine = film.pixels[700:1100, 860:980].mean()
    lung = film.pixels[400:600, 500:700].mean()
    assert spine > lung + 40
    assert film.tags["Modality"] == "CR"
    assert film.tags["BodyPartExamined"] == "CHEST"
    assert film.tags["ViewPosition"] == "PA"


def test_baseline_jpeg_inside_dicom_is_read():
    picture = cv2.resize(steps([20, 120, 220], np.uint8), (96, 64))
    jpeg = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    data = dicom(
        jpeg, uid.JPEGBaseline8Bit, Rows=64, Columns=96, BitsAllocated=8, BitsStored=8,
        PixelRepresentation=0,
    )  # fmt: skip
    assert np.abs(images.read(data).pixels.astype(int) - picture).mean() < 2


class TestGrayPipeline:
    def test_eight_bits_without_a_window_stay_as_they_are(self):
        assert grays(dicom(steps([0, 7, 130, 200], np.uint8))) == [0, 7, 130, 200]

    def test_more_bits_without_a_window_are_scaled_by_the_films_own_range(self):
        assert grays(dicom(steps([1000, 1500, 2000, 3000]))) == [0, 64, 128, 255]

    def test_the_linear_window_follows_the_standard(self):
        # PS3.3 C.11.2.1.2.1: ((x - (c - 0.5)) / (w - 1) + 0.5) of the range, flat outside of it.
        data = dicom(
            steps([0, 1047, 1500, 2048, 3000, 3048, 4095]),
            BitsStored=12, WindowCenter=2048, WindowWidth=2001,
        )  # fmt: skip
        inside = [round(((x - 2047.5) / 2000 + 0.5) * 255) for x in (1500, 2048, 3000)]
        assert inside == [58, 128, 249]
        assert grays(data) == [0, 0, *inside, 255, 255]

    def test_a_window_wider_than_the_film_is_not_stretched_to_it(self):
        data = dicom(steps([500, 600]), BitsStored=10, WindowCenter=512, WindowWidth=1024)
        assert grays(data) == [125, 150]

    def test_linear_exact_and_sigmoid_windows(self):
        window = {"BitsStored": 10, "WindowCenter": 500, "WindowWidth": 1000}
        picture = steps([0, 250, 500, 1000])
        exact = grays(dicom(picture, VOILUTFunction="LINEAR_EXACT", **window))
        assert exact == [0, 64, 128, 255]
        sigmoid = grays(dicom(picture, VOILUTFunction="SIGMOID", **window))
        assert sigmoid == [
            round(255 / (1 + np.exp(-4 * (x - 500) / 1000))) for x in (0, 250, 500, 1000)
        ]

    def test_the_first_of_several_windows_is_used(self):
        one = dicom(steps([0, 50, 100]), WindowCenter=50, WindowWidth=100)
        several = dicom(steps([0, 50, 100]), WindowCenter=[50, 9000], WindowWidth=[100, 10])
        assert grays(several) == grays(one)

    def test_rescale_comes_before_the_window(self):
        # Stored 1024 is 0 and 1124 is 100 after rescale: the two edges of the window.
        data = dicom(
            steps([1000, 1024, 1074, 1124, 1200]), RescaleSlope=1, RescaleIntercept=-1024,
            VOILUTFunction="LINEAR_EXACT", WindowCenter=50, WindowWidth=100,
        )  # fmt: skip
        assert grays(data) == [0, 0, 128, 255, 255]

    def test_an_empty_rescale_is_none(self):
        data = dicom(steps([0, 7, 130], np.uint8), RescaleSlope=None, RescaleIntercept=None)
        assert grays(data) == [0, 7, 130]

    def test_a_negative_slope_turns_the_gray_scale_around(self):
        slope = {"RescaleSlope": -1, "RescaleIntercept": 1000}
        picture = steps([0, 250, 500, 1000])
        assert grays(dicom(picture, **slope)) == [255, 191, 128, 0]
        window = {"VOILUTFunction": "LINEAR_EXACT", "WindowCenter": 500, "WindowWidth": 1000}
        assert grays(dicom(picture, **slope, **window)) == [255, 191, 128, 0]

    def test_monochrome1_is_inverted_after_the_window(self):
        window = {"VOILUTFunction": "LINEAR_EXACT", "WindowCenter": 100, "WindowWidth": 100}
        picture = steps([0, 61, 101, 139, 4000])
        upright = grays(dicom(picture, **window))
        film = images.read(dicom(picture, PhotometricInterpretation="MONOCHROME1", **window))
        assert [int(g) for g in film.pixels[0, ::4]] == [255 - gray for gray in upright]
        assert upright == [0, 28, 130, 227, 255]
        assert any(note.startswith("MONOCHROME1") for note in film.notes)

    def test_signed_values(self):
        assert grays(dicom(steps([-1000, 0, 1000], np.int16))) == [0, 128, 255]

    @pytest.mark.parametrize("bits", [8, 16])
    def test_a_voi_table_is_applied_in_place_of_the_window(self, bits):
        # 300 entries: a table of 8-bit values with more entries than 8 bits can number.
        table = [0] * 100 + [100] * 100 + [200] * 100
        data = dicom(
            steps([0, 99, 150, 299, 5000]), VOILUTSequence=lut(table, bits=bits),
            WindowCenter=10, WindowWidth=2,
        )  # fmt: skip
        assert grays(data) == [0, 0, 128, 255, 255]

    def test_a_modality_table_comes_before_a_voi_table(self):
        data = dicom(
            steps([0, 1, 2, 3]),
            ModalityLUTSequence=lut([30, 20, 10, 0], bits=12),
            VOILUTSequence=lut([0, 50, 255], first=9),
        )
        # 30 and 20 lie behind the last entry (11), 10 is the second, 0 lies before the first.
        assert grays(data) == [255, 255, 50, 0]

    @pytest.mark.parametrize(
        "window",
        [
            {"WindowCenter": 50, "WindowWidth": 0},  # cannot be computed
            {"WindowCenter": 60000, "WindowWidth": 10},  # shows all of it black
            {"VOILUTFunction": "BANANA", "WindowCenter": 50, "WindowWidth": 100},
        ],
    )
    def test_a_useless_window_is_passed_over_with_a_note(self, window):
        data = dicom(steps([1000, 1500, 2000, 3000]), **window)
        assert grays(data) == [0, 64, 128, 255]
        assert any("No usable window" in note for note in images.read(data).notes)

    def test_padding_is_black_and_does_not_set_the_range(self):
        picture = steps([0, 1000, 2000, 65535])
        data = dicom(picture, PixelPaddingValue=65535, PhotometricInterpretation="MONOCHROME1")
        assert grays(data) == [255, 127, 0, 0]

    def test_a_few_dead_pixels_do_not_set_the_range(self):
        picture = np.tile(np.linspace(1000, 3000, 200).astype(np.uint16), (200, 1))
        picture[0, :5] = 65535
        film = images.read(dicom(picture))
        assert np.ptp(film.pixels[1]) > 250


class TestWhatIsKept:
    SECRETS = ("Doe^Jane", "ID-4711", "19500102", "General Hospital", "Dr^House", "ACC-99")

    def identified(self, **values: Any) -> bytes:
        return dicom(
            steps([0, 1000, 2000]), PatientName="Doe^Jane", PatientID="ID-4711",
            PatientBirthDate="19500102", InstitutionName="General Hospital",
            ReferringPhysicianName="Dr^House", AccessionNumber="ACC-99", **values,
        )  # fmt: skip

    def test_the_allow_list_of_tags_and_nothing_else(self):
        film = images.read(
            self.identified(
                Modality="DX", BodyPartExamined="chest", ViewPosition="AP", PatientAge="045Y",
                PatientSex="F", PixelSpacing=[0.143, 0.143], KVP="125",
            ),
            name="film.dcm",
        )  # fmt: skip
        assert film.tags == {
            "Modality": "DX",
            "BodyPartExamined": "CHEST",
            "ViewPosition": "AP",
            "PatientAge": "045Y",
            "PatientSex": "F",
            "PixelSpacing": "0.143 x 0.143 mm",
        }
        told = repr((film.name, film.mode, film.notes, film.tags))
        assert not any(secret in told for secret in self.SECRETS)

    def test_a_name_in_the_wrong_field_is_not_kept(self):
        film = images.read(self.identified(BodyPartExamined="DOE^JANE", PatientSex="JANE DOE"))
        assert film.tags == {}

    @pytest.mark.parametrize(
        "injury", ["cut", "no pixels", "bad depth", "bad window", "garbled", "misplaced"]
    )
    def test_identifiers_appear_in_no_error_warning_or_log(self, injury, caplog, capfd):
        data = self.identified(Modality="DX")
        if injury == "cut":
            data = data[:-40]
        elif injury == "no pixels":
            data = data[: data.index(b"\xe0\x7f\x10\x00")]
        elif injury == "bad depth":
            data = self.identified(BitsAllocated=32)
        elif injury == "bad window":
            data = self.identified(WindowCenter="50", WindowWidth="60").replace(b"60", b"5x")
        elif injury == "misplaced":
            data = self.identified(BodyPartExamined="Doe^Jane", PatientAge="ID-4711")
        else:
            at = data.index(b"PN")
            data = data[:at] + b"DS" + data[at + 2 :]
        with (
            caplog.at_level(logging.DEBUG),
            warnings.catch_warnings(record=True) as warned,
        ):
            warnings.simplefilter("always")
            try:
                told = str(images.read(data, name="film.dcm").notes)
            except UnreadableImageError as error:
                told = str(error) + repr(error.__cause__)
        output = capfd.readouterr()
        told += caplog.text + output.out + output.err + "".join(str(w.message) for w in warned)
        assert not any(secret in told for secret in self.SECRETS)

    def test_burned_in_text_is_noted(self):
        film = images.read(self.identified(BurnedInAnnotation="YES"))
        assert any("burned into the pixels" in note for note in film.notes)
        assert film.burned_in
        assert not images.read(self.identified(BurnedInAnnotation="NO")).burned_in


class TestRefusals:
    @pytest.mark.parametrize(
        "name", ["CT_small.dcm", "MR_small_RLE.dcm", "JPEG2000.dcm", "JPEG-LL.dcm"]
    )
    @pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9, 0.97])
    def test_a_file_cut_off_anywhere_is_refused(self, name, share):
        data = locate(name).read_bytes()
        assert refused(data[: int(len(data) * share)], "cut.dcm").startswith("cut.dcm ")

    def test_a_header_that_promises_too_many_pixels_is_refused_before_decoding(self):
        data = dicom(steps([0, 1]), Rows=40000, Columns=40000)
        assert "more than 64 megapixels" in refused(data)

    def test_a_codestream_of_another_size_than_the_header_says_is_refused(self):
        jpeg = cv2.imencode(".jpg", np.zeros((64, 64), np.uint8))[1].tobytes()
        data = dicom(
            jpeg, uid.JPEGBaseline8Bit, Rows=32, Columns=32, BitsAllocated=8, BitsStored=8,
            PixelRepresentation=0,
        )  # fmt: skip
        assert MISFIT in refused(data)

    def test_a_deflated_file_that_would_fill_the_memory_is_refused(self):
        small = dicom(np.zeros((8, 8), np.uint8), uid.DeflatedExplicitVRLittleEndian)
        header = small[: 144 + int.from_bytes(small[140:144], "little")]
        packer = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        data = header + packer.compress(bytes(140_000_000)) + packer.flush()
        assert len(data) < 1_000_000
        assert "unpacks to more than a film can have" in refused(data)

    def test_a_video_is_named_as_what_cannot_be_decoded(self):
        data = dicom(
            b"\0" * 64, uid.MPEG4HP41, Rows=32, Columns=32, BitsAllocated=8, BitsStored=8,
            PixelRepresentation=0,
        )  # fmt: skip
        assert "MPEG-4" in refused(data)

    def test_a_file_without_preamble_is_recognised(self):
        data = dicom(steps([0, 100, 200], np.uint8))
        begin = data.index(b"\x08\x00\x16\x00UI")
        assert grays(data[begin:]) == [0, 100, 200]
