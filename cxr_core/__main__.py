"""``python -m cxr_core``: the app's verbs in a terminal."""

from cxr_core.cli import app

if __name__ == "__main__":
    app(prog_name="python -m cxr_core")
