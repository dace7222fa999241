"""The model that a search trains: two copies of an architecture that share alpha."""

import copy
from collections.abc import Mapping, Sequence
from contextlib import suppress

from mmengine.model import BaseModel
from torch import Tensor, nn

from rarts_mm.registry import MODELS, SPACES
from rarts_mm.search import AUXILIARY, PRIMARY

from .activation_checkpointing import checkpoint_activations
from .batch_pair import BatchPair
from .swin_release import convert_on_load


class Alphas(nn.Module):
    """The one owner of alpha: a parameter per unit, named by the unit.

    Both networks hold references, so that alpha has one key in the state dict and is no weight of
    either network. Dots of the unit's name become slashes, as torch allows no dots.
    """

    def __init__(self, alphas: Mapping[str, nn.Parameter]) -> None:
        super().__init__()
        for name, alpha in alphas.items():
            self.register_parameter(name.replace(".", "/"), alpha)

    def named(self) -> dict[str, nn.Parameter]:
        """Alpha by the unit's name (dots again)."""
        return {name.replace("/", "."): alpha for name, alpha in self.named_parameters()}


@MODELS.register_module()
class SearchModel(BaseModel):
    """An architecture in two copies, w (``auxiliary``) and u (``primary``), under one alpha.

    .. code-block:: python

        model = dict(_delete_=True, type='rarts_mm.SearchModel', architecture=_base_.model)

    Args:
        architecture: config of any MMDetection or MMPretrain model.
        space: config of what alpha stands for. Defaults to scores on the dimensions of the
            backbone, ``dict(type='WidthSpace', include='backbone')``.
        networks: 2, or 1 for alternations that train one network (joint).
        keep: the network that validation and later stages see: ``'auxiliary'`` (thesis, Algorithm 3
            returns w) or ``'primary'``.
        independent_init: give u an initialisation of its own instead of a copy of w.
        activation_checkpointing: names of modules of the architecture, such as
            ``'backbone.stages.0'``, that compute their activations again in the backward pass
            instead of keeping them. Modules that the architecture's own ``with_cp`` switches are
            covered in the same way.
        data_preprocessor: handed to the architecture if it has none (MMPretrain's configs keep it
            at the top level, from where the Runner gives it to the outermost model).

    The state dict holds ``auxiliary.*``, ``primary.*`` and ``alpha.*``. A plain checkpoint of the
    architecture, also one with the key names of the original Swin release, loads into both networks
    and leaves alpha as it is.
    """

    def __init__(
        self,
        architecture: dict,
        space: dict | None = None,
        networks: int = 2,
        keep: str = AUXILIARY,
        independent_init: bool = False,
        activation_checkpointing: Sequence[str] = (),
        data_preprocessor: dict | nn.Module | None = None,
    ) -> None:
        if networks not in (1, 2):
            raise ValueError(f"networks must be 1 or 2, got {networks!r}")
        if keep not in (AUXILIARY, PRIMARY) or (keep == PRIMARY and networks == 1):
            raise ValueError(
                f"keep={keep!r} with {networks} network(s): choose 'auxiliary', or 'primary' where "
                "there are two networks"
            )
        architecture = copy.deepcopy(architecture)
        if data_preprocessor is not None and architecture.get("data_preprocessor") is None:
            architecture["data_preprocessor"] = data_preprocessor
        network = _build(architecture)
        super().__init__(data_preprocessor=network.data_preprocessor)
        space = dict(type="WidthSpace") | dict(space or {})
        if isinstance(space["type"], str) and SPACES.get(space["type"]) is None:
            raise ValueError(
                f"unknown model.space.type={space['type']!r}; known are {sorted(SPACES.module_dict)}"
            )
        self.space = SPACES.build(space)
        self.alpha = Alphas(self.space.insert(network))
        self.auxiliary = network
        self.primary = None
        if networks == 2:
            if independent_init:
                # Many modules draw weights when they are built, which init_weights leaves as they are.
                self.primary = _build(architecture)
                self.space.insert(self.primary)
            else:
                self.primary = copy.deepcopy(network)
            self.space.bind(self.primary, self.alpha.named())
        for each in (self.auxiliary, self.primary):
            if each is not None:
                checkpoint_activations(each, activation_checkpointing)
        self.keep = keep
        self.independent_init = independent_init
        self.register_load_state_dict_pre_hook(_adapt_checkpoint)

    @property
    def kept(self) -> nn.Module:
        """The network that goes on after the search."""
        return getattr(self, self.keep)

    def alpha_parameters(self) -> dict[str, nn.Parameter]:
        """Alpha by unit name."""
        return self.alpha.named()

    def rebind(self) -> None:
        """Take alpha back from networks that own it, since somebody has replaced layers of theirs.

        The Runner does when it wraps a model: in a single process it makes plain batch norms of SyncBN,
        and with ``sync_bn`` SyncBN of all batch norms, whose scales may be scores.

        Raises:
            ValueError: the new layers cannot carry scores. Two optimisers would step them.
        """
        for network in (self.auxiliary, self.primary):
            if network is None or self._owned_by(network) is None:
                continue
            with suppress(ValueError):
                self.space.bind(network, self.alpha_parameters())
            if (name := self._owned_by(network)) is not None:
                kind = type(network.get_submodule(name.rpartition(".")[0]))
                raise ValueError(
                    f"{name} is both alpha and a weight, so two optimisers would step it: the layer "
                    f"with scores was replaced by a {kind.__module__}.{kind.__name__} after it was "
                    "built, which cannot carry scores. If sync_bn='mmcv' did so, set sync_bn='torch'"
                )

    def _owned_by(self, network: nn.Module) -> str | None:
        """The name of a weight of the network that is alpha."""
        alphas = {id(alpha) for alpha in self.alpha_parameters().values()}
        return next((n for n, p in network.named_parameters() if id(p) in alphas), None)

    def init_weights(self) -> None:
        """Initialise w as the architecture says; u becomes a copy unless ``independent_init``."""
        self.auxiliary.init_weights()
        if self.primary is not None and self.independent_init:
            self.primary.init_weights()
        # Scores that are weights of the layers have been initialised as such.
        self.space.initialise(self.alpha_parameters())
        if self.primary is not None and not self.independent_init:
            self.primary.load_state_dict(self.auxiliary.state_dict())

    def train_step(self, data: dict[str, dict], optim_wrapper) -> dict[str, Tensor]:
        """One step of the alternation on a pair of batches.

        Args:
            data: ``{'auxiliary': batch of D_a, 'primary': batch of D_p}``, as the search loop gives.
            optim_wrapper: a :class:`~rarts_mm.engine.RARTSOptimWrapper`.
        """
        if not hasattr(optim_wrapper, "search_step"):
            raise TypeError(
                f"{type(optim_wrapper).__name__} cannot train a search: use optim_wrapper="
                "dict(type='rarts_mm.RARTSOptimWrapper', constructor="
                "'rarts_mm.RARTSOptimWrapperConstructor', weights=<the base config's optim_wrapper>)"
            )
        return optim_wrapper.search_step(BatchPair(self, data, optim_wrapper))

    def val_step(self, data: dict) -> list:
        return self.kept.val_step(data)

    def test_step(self, data: dict) -> list:
        return self.kept.test_step(data)

    def forward(self, inputs: Tensor, data_samples: list | None = None, mode: str = "tensor"):
        """Forward pass of the kept network, as MMEngine's ``BaseModel``."""
        return self.kept(inputs, data_samples, mode=mode)


def _build(architecture: dict) -> nn.Module:
    network = MODELS.build(copy.deepcopy(architecture))
    # Backbones freeze stages when they are put into training mode, which the Runner does after it
    # has built the optimisers: what is frozen must be known before.
    network.train()
    return network


def _adapt_checkpoint(model: SearchModel, state_dict: dict, prefix: str, *args: object) -> None:
    """Load-state-dict pre-hook: a search's checkpoint as it is, a plain one for both networks.

    MMEngine loads with ``strict=False`` and only warns of what does not fit; a checkpoint of something
    else would leave random weights and scores behind, so that it is refused here.
    """
    del args
    own = {k.removeprefix(prefix): v for k, v in state_dict.items() if k.startswith(prefix)}
    networks = [name for name in (AUXILIARY, PRIMARY) if getattr(model, name) is not None]
    written = [n for n in (AUXILIARY, PRIMARY) if any(k.startswith(f"{n}.") for k in own)]
    if not written:
        for k in own:
            del state_dict[prefix + k]
        plain = convert_on_load(own, network=model.auxiliary)
        versions = getattr(state_dict, "_metadata", None) or {}
        plain = _in_todays_names(plain, model.auxiliary, versions, prefix)
        scored = model.space.scored_weights(model.auxiliary)
        plain = _require_fitting(plain, model.auxiliary, scored)
        # Alpha is not part of a plain checkpoint: keep what is there, and report nothing missing.
        state_dict.update({f"{prefix}alpha.{k}": v for k, v in model.alpha.state_dict().items()})
        _give(state_dict, prefix, plain, "", networks)
        return
    _require_scores(own, model.alpha)
    if written == [AUXILIARY] and PRIMARY in networks:
        # The checkpoint of a search with one network: u starts as a copy of w.
        w = {k.removeprefix(f"{AUXILIARY}."): v for k, v in own.items() if k.startswith(AUXILIARY)}
        _give(state_dict, prefix, w, AUXILIARY, [PRIMARY])


def _in_todays_names(
    plain: Mapping[str, Tensor], network: nn.Module, versions: Mapping[str, dict], prefix: str
) -> dict[str, Tensor]:
    """Let the layers rename the entries of their older versions, as in loading the network alone.

    Some look for names from the model's root (MMPretrain's Swin for ``backbone.norm.``), which they
    would not find below ``auxiliary.``.
    """
    plain = dict(plain)
    for path, module in network.named_modules():
        version = versions.get(f"{prefix}{path}".rstrip("."), {})
        own = f"{path}." if path else ""
        module._load_from_state_dict(plain, own, version, False, [], [], [])
    return plain


def _give(
    state_dict: dict, prefix: str, plain: Mapping[str, Tensor], source: str, networks: Sequence[str]
) -> None:
    """Enter one network's weights for these networks, with the versions of the source's modules."""
    versions = getattr(state_dict, "_metadata", None) or {}
    root = (prefix + source).rstrip(".")
    own = {
        path.removeprefix(root).lstrip("."): version
        for path, version in versions.items()
        if not root or path == root or path.startswith(f"{root}.")
    }
    for name in networks:
        state_dict.update({f"{prefix}{name}.{k}": v for k, v in plain.items()})
        versions.update({f"{prefix}{name}.{path}".rstrip("."): v for path, v in own.items()})


def _require_fitting(
    plain: Mapping[str, Tensor], network: nn.Module, scored: Sequence[str]
) -> Mapping[str, Tensor]:
    """Heads may differ (another number of classes); what is to be searched may not."""
    expected = network.state_dict()
    odd = [k for k in scored if k not in plain or plain[k].shape != expected[k].shape]
    if not odd:
        return plain
    k = odd[0]
    found = tuple(plain[k].shape) if k in plain else "missing"
    raise RuntimeError(
        f"the checkpoint fits neither a search nor its architecture ({type(network).__name__}): "
        f"{len(odd)} of the {len(scored)} scored layers would keep random weights, the first is {k!r}, "
        f"{found} in the checkpoint and {tuple(expected[k].shape)} in the network. Start from a "
        "checkpoint of this architecture that was not pruned."
    )


def _require_scores(own: Mapping[str, Tensor], alpha: Alphas) -> None:
    wanted = {name: tuple(a.shape) for name, a in alpha.named().items()}
    found = {
        k.removeprefix("alpha.").replace("/", "."): tuple(v.shape)
        for k, v in own.items()
        if k.startswith("alpha.")
    }
    odd = [n for n in {**wanted, **found} if wanted.get(n) != found.get(n)]
    if odd:
        name = odd[0]
        raise RuntimeError(
            f"the checkpoint is of another search: its scores differ in {len(odd)} units, the first is "
            f"{name!r} with {found.get(name, 'no')} scores in the checkpoint and "
            f"{wanted.get(name, 'none')} in the model. Use the architecture and the space that the "
            "checkpoint was searched with."
        )
