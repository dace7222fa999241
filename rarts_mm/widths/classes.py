"""Classes by name: a library that is not installed need not be imported to know that a layer is not of it."""


def qualified_name(cls: type) -> str:
    """``package.module.Class``."""
    return f"{cls.__module__}.{cls.__qualname__}"
