"""halfopen: finds TCP connections that the two hosts at their ends disagree about.

For programs: `check`, `analyse` and `load` give a Report, or raise a HalfopenError. They are imported when first used.
"""

__version__ = "0.1.0"
__all__ = ("HalfopenError", "Report", "UsageError", "__version__", "analyse", "check", "load")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from halfopen.api import HalfopenError, Report, UsageError, analyse, check, load


def __getattr__(name: str) -> object:
    """What halfopen.api offers; AttributeError for anything else."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("halfopen.api"), name)
