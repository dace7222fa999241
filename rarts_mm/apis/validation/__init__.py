"""Whether settings make sense, before anything is built from them."""

from .check import check_config, check_search
from .launchers import check_launcher

__all__ = ["check_config", "check_launcher", "check_search"]
