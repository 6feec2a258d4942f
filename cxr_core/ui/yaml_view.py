"""The configuration as YAML: out as a file, in as a file or as pasted text."""

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from cxr_core.config import RunConfig
from cxr_core.errors import ConfigError
from cxr_core.ui import notices

Use = Callable[[str, RunConfig], None]  # told what the configuration is called, and it

_FILE = "yaml_file"
_TEXT = "yaml_text"
_WRONG = "yaml_wrong"  # session key: why the last one could not be read
_LARGEST = 1  # MB
_EXAMPLE = "image:\n  size: 96\noptimise:\n  epochs: 5"


def panel(config: RunConfig | None, name: str, use: Use) -> None:
    """Draw the download of a configuration, and the fields to fill the form from another.

    Args:
        config: the form's; None while its settings do not go together.
        name: of the file to download, without its ending.
        use: called with what was read, before the page is drawn again.
    """
    with st.expander("Configuration as YAML", icon=":material/data_object:"):
        st.download_button(
            "Download this configuration",
            "" if config is None else config.to_yaml(),
            f"{name}.yaml",
            "application/yaml",
            icon=":material/download:",
            on_click="ignore",
            disabled=config is None,
            help="Every setting. `python -m cxr_core train FILE` trains it from a terminal.",
        )
        st.file_uploader(
            "Fill the form from a file",
            type=["yaml", "yml"],
            key=_FILE,
            max_upload_size=_LARGEST,
            on_change=_read_file,
            args=(use,),
        )
        st.text_area("or from text", key=_TEXT, height=120, placeholder=_EXAMPLE)
        st.button("Fill the form", key="yaml_fill", on_click=_read_text, args=(use,))
        wrong = st.session_state.get(_WRONG)
        if wrong is not None:
            notices.wrong(wrong)


def _read_file(use: Use) -> None:
    file = st.session_state[_FILE]
    if file is not None:
        _read(file.getvalue(), f"The file {file.name}", Path(file.name).stem, use)


def _read_text(use: Use) -> None:
    _read(st.session_state[_TEXT].encode(), "The text", "text", use)


def _read(content: bytes, source: str, name: str, use: Use) -> None:
    st.session_state[_WRONG] = None
    try:
        config = RunConfig.from_yaml(content.decode("utf-8"), source)
    except UnicodeDecodeError:
        st.session_state[_WRONG] = ConfigError(
            f"{source} is not text. Give a YAML file with settings, as the download above makes it."
        )
    except ConfigError as error:
        st.session_state[_WRONG] = error
    else:
        use(name, config)
