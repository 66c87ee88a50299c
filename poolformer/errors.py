"""The mistakes a user can make, as exceptions.

At the terminal each of these is one line on stderr and exit code 2; any other exception is a bug of
ours and keeps its traceback.
"""


class PoolformerError(ValueError):
    """A mistake in what the user gave; the message says what was asked, what was found, what to do."""


class RegistryError(PoolformerError):
    """A token mixer or backbone that cannot be had."""


class UnknownNameError(RegistryError):
    """No installed package offers this name."""


class AmbiguousNameError(RegistryError):
    """Two installed packages offer this name, so neither gets it."""


class BrokenPluginError(RegistryError):
    """The name is registered, but the package behind it does not keep the contract."""


class OptionsError(RegistryError):
    """The factory behind the name does not take these options."""


class ResolutionError(PoolformerError):
    """Images of another size than the network was built for."""


class ConfigError(PoolformerError):
    """Options that contradict each other or the data."""


class DataError(PoolformerError):
    """Images, labels or folders that cannot be used."""


class CheckpointError(PoolformerError):
    """A checkpoint that is missing, damaged, or made for something else."""


def one_line(error: PoolformerError) -> str:
    """Return the message, without the traceback that a loader's worker process wraps around it."""
    lines = str(error).strip().splitlines() or [repr(error)]
    return lines[-1].removeprefix(f"{type(error).__module__}.{type(error).__qualname__}: ")
