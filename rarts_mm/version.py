"""The version, in one place: read without importing the package."""

__version__ = "0.1.0"
