"""Data modules, chosen on the command line by class name: ``--data FolderData``.

Their loaders yield uint8 images (B, 3, H, W) and int64 labels (B,); what a sample needs of the
training recipe happens here, what a batch needs happens in the classifier.
"""

from .digits import DigitsData
from .folder import FolderData

__all__ = ["DigitsData", "FolderData"]
