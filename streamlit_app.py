"""The app's door: page set-up, navigation and the research notice.

Streamlit reads this file twice over: its server imports it to learn what to serve, and then runs
it for every visitor and every click.
"""

if __name__ != "__main__":
    from streamlit.starlette import App

    from cxr_core.ui import opening

    app = App(__file__, lifespan=opening.lifespan)
else:
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
