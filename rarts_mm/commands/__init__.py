"""The commands of ``rarts-mm``, a file each: its arguments, and what of :mod:`rarts_mm.apis` they are for."""
