"""Views of a run: folds over its events. A view never changes a run and never slows it."""
