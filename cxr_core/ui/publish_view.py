"""Publishing: a run's model kept in ``models/`` under a name of its own."""

import streamlit as st

from cxr_core.diagnosis import bundle
from cxr_core.errors import CxrError
from cxr_core.training import bundle_index
from cxr_core.training.tracking import RunRecord
from cxr_core.ui import loaders, notices, words

_OUTCOME = "publish_outcome"  # session key: (run id, the new name or what went wrong)


def offer(record: RunRecord) -> None:
    """Offer to publish a run's model; of the films' licence is told before."""
    with st.popover("Publish", icon=":material/publish:", key=f"publish:{record.run_id}"):
        st.markdown(
            "Copy the model into the app's `models/` folder, where Diagnose and the command line "
            "offer it by this name, also when the run is deleted."
        )
        st.caption(_films(record))
        st.text_input(
            "Name",
            key=_name_key(record),
            placeholder="lungs_v1",
            max_chars=60,
            help="Letters, digits, hyphens and underscores, a letter or digit first.",
        )
        st.button(
            "Publish the model",
            key=f"publish_now:{record.run_id}",
            type="primary",
            on_click=_publish,
            args=(record,),
        )
        _outcome(record)  # here: below, the popover would lie over it


def _outcome(record: RunRecord) -> None:
    """Say what came of publishing this run's model, if that was asked for."""
    run_id, came = st.session_state.get(_OUTCOME, ("", ""))
    if run_id != record.run_id:
        return
    if isinstance(came, CxrError):
        notices.wrong(came)
    else:
        st.success(
            f"Published as **{words.plain(came)}**: choose it on Diagnose, or "
            f"`python -m cxr_core predict {came} film.png`.",
            icon=":material/check_circle:",
        )


def _publish(record: RunRecord) -> None:
    name = str(st.session_state[_name_key(record)]).strip()
    if st.session_state.get(_OUTCOME) == (record.run_id, name):
        return  # the second press of a double click
    try:
        bundle_index.publish(record.run_id, name, loaders.store())
    except CxrError as error:
        st.session_state[_OUTCOME] = (record.run_id, error)
    else:
        st.session_state[_OUTCOME] = (record.run_id, name)


def _films(record: RunRecord) -> str:
    """Return which films a model learned from and by which licence they may be used."""
    try:
        # The small file alone: from a server the model would come along with its folder.
        place = loaders.store().path(record.run_id, f"bundle/{bundle.INFO_FILE}").parent
        data = bundle.read(place).data
    except CxrError as error:
        return words.plain(str(error))
    licence = (
        f"Licence of these films: {words.plain(data.licence)}."
        if data.licence
        else "Their licence is not known: find out before you pass the model on."
    )
    return f"It learned from {words.plain(data.name)}. {licence}"


def _name_key(record: RunRecord) -> str:
    return f"publish_name:{record.run_id}"
