"""Weights that somebody keeps on the Hugging Face hub: ``hf-hub:user/repo``, as timm spells it."""

import os
import re

from ..errors import CheckpointError, describe

_SOURCE = re.compile(r"^hf[-_]hub:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?$")
TIMM = "timm/"
"""What stands before the names of weights that timm downloads."""
# What timm and transformers call their files, the one that is no pickle first.
_FILES = ("model.safetensors", "pytorch_model.bin")


def is_on_hub(source: str) -> bool:
    """Return whether weights are asked for from the hub."""
    return re.match(r"hf[-_]hub:", source) is not None


def fetch(source: str) -> str:
    """Return the path of a repository's weights, which are downloaded unless the cache has them.

    Args:
        source: ``hf-hub:user/repo``, or ``hf-hub:user/repo@revision``.

    Raises:
        CheckpointError: The spelling is off, or the hub does not give them.
    """
    match = _SOURCE.match(source)
    if match is None:
        raise CheckpointError(f"'{source}' names no repository of the hub: write hf-hub:user/repo, or with @revision")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    for name in _FILES:
        try:
            # Read when asked: the library looks at the variable when it is imported.
            endpoint = os.environ.get("HF_ENDPOINT")
            path: str = hf_hub_download(match["repo"], name, revision=match["revision"], endpoint=endpoint)
            return path
        except LocalEntryNotFoundError as error:
            raise _no_weights(source, error) from error
        except EntryNotFoundError:
            continue
        except Exception as error:  # a download fails in a dozen ways
            raise _no_weights(source, error) from error
    raise CheckpointError(f"'{source}' has neither {' nor '.join(_FILES)}: download its weights, and pass the file")


def _no_weights(source: str, error: Exception) -> CheckpointError:
    reason = describe(error).partition(". ")[0][:200]
    return CheckpointError(
        f"the hub cannot give '{source}': {reason}; without internet, download it elsewhere and pass the file"
    )
