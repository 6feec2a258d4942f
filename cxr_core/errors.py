"""The errors a user can cause, each a sentence that says what, why, and what to do."""


class CxrError(Exception):
    """Something the user can mend. ``str(error)`` is a full sentence meant to be shown to them."""


class ConfigError(CxrError):
    """A setting is unknown or out of range; the text names the field's path and what is allowed."""


class UnreadableImageError(CxrError):
    """A file is no image this app can read; the text names the file, the reason and the mend."""


class DatasetError(CxrError):
    """A folder or table is no usable data set; the text names the place and the mend."""


class FetchError(DatasetError):
    """A data set could not be had from its source; the text says what is in the way."""


class FetchCancelledError(FetchError):
    """A fetch ended because its user stopped it; nothing half-made is left."""


class BundleError(CxrError):
    """A model bundle is missing, damaged or of another version; the text names it and the mend."""


class ExportError(CxrError):
    """A model cannot be exported as asked; the text says why and what to do."""


class TrainingError(CxrError):
    """A run cannot start or cannot go on; the text is what the run's page shows as the reason."""


class StoreAwayError(TrainingError):
    """The run store does not answer now; another try may find it back."""


class ServiceError(CxrError):
    """The HTTP service cannot start as asked; the text says why and what to do."""
