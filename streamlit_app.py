"""The app's door: page set-up, navigation and the research notice."""

import streamlit as st

from cxr_core.ui import door, notices, style

st.set_page_config(
    page_title="CXR Studio",
    page_icon=style.ICON,
    layout="wide",
    menu_items={"About": notices.ABOUT},
)
style.apply()

accepted = notices.accepted()
page = st.navigation(
    [
        st.Page("pages/home.py", title="Home", icon=":material/home:", default=True),
        st.Page("pages/dataset.py", title="Dataset", icon=":material/photo_library:"),
        st.Page("pages/train.py", title="Train", icon=":material/model_training:"),
        st.Page("pages/runs.py", title="Runs", icon=":material/monitoring:"),
        st.Page("pages/diagnose.py", title="Diagnose", icon=":material/radiology:"),
    ],
    position="top" if accepted else "hidden",
)

if accepted:
    door.warm()
    with door.opened():
        page.run()
    notices.footer()
else:
    notices.ask()
