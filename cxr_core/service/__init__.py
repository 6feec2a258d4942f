"""The HTTP service: films in, answers out, by the same predictor and gate as the page.

`server` runs it, `app` puts it together. It knows bundles by their folders and no run store:
whoever starts it says which ones. What it needs stands in requirements-serve.txt.
"""
