"""lffs: a filesystem for pipelines that work in stages; see README.md."""

__version__ = "0.1.0"
