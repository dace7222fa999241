"""Width search: scores on dimensions, ranking, exact slicing and its proof."""

from .adapters import WidthAdapter
from .criteria import CRITERIA, importance
from .kept import check_kept
from .layers.scored_linear import ScoredLinear
from .layers.sliced_attention import SlicedWindowMSA
from .layers.sliced_linear import SlicedLinear
from .masking import masked
from .proof import Proof, ProofError, prove_equal, prove_slicing
from .pruned import PrunedModel, pruned_config
from .ranking import rank_scores
from .scores import bind_scores, find_uncovered, find_units, insert_scores, scores_of
from .slicing import slice_network
from .spaces import BatchNormSpace, ChannelSpace, PreNormSpace, WidthSpace
from .unit import LeftOut, Unit

__all__ = [
    "CRITERIA",
    "BatchNormSpace",
    "ChannelSpace",
    "LeftOut",
    "PreNormSpace",
    "Proof",
    "ProofError",
    "PrunedModel",
    "ScoredLinear",
    "SlicedLinear",
    "SlicedWindowMSA",
    "Unit",
    "WidthAdapter",
    "WidthSpace",
    "bind_scores",
    "check_kept",
    "find_uncovered",
    "find_units",
    "importance",
    "insert_scores",
    "masked",
    "prove_equal",
    "prove_slicing",
    "pruned_config",
    "rank_scores",
    "scores_of",
    "slice_network",
]
