"""The version, alone so that the build backend and a start-up path can read it cheaply."""

__version__ = "0.1.0"
