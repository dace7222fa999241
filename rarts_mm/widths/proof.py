"""The proof that a sliced network computes what the masked network computes."""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from .flow.attached import attached
from .flow.detectors import run_whole
from .kept import Kept
from .masking import masked
from .predictions import compare_predictions
from .running import (
    Forward,
    ProofError,
    call,
    call_with_several,
    evaluation_copy,
    moved,
    random_images,
    relative_difference,
    run,
    tensors_in,
)
from .scores import Site, scored_sites, scores_of
from .slicing import slice_network
from .training_proof import check_ties, training_difference

TOLERANCE = 1e-10
# Rounding grows on the way back through batch norms; a parameter that two layers share no more
# changes a gradient by its whole size.
TRAINING_TOLERANCE = 1e-7
TRAINING_SIZE = (49, 65)


@dataclass(frozen=True)
class Proof:
    """How far two networks are apart: max |difference| / max |reference|, worst output.

    Attributes:
        error: In float64; this one is judged.
        error_float32: In float32; rounding grows with depth, so it is only reported. None where it was not run.
        tolerance: The largest ``error`` that passes.
        compared: Path of the compared submodule; empty for the whole network.
        inputs: Shapes of the inputs.
        outputs: Number of output tensors per input.
        error_training: Of gradients and running statistics of one training step, in float64; None
            where it was not compared.
        objects: Number of objects that a detector predicts, the same in both; None where none were compared.
    """

    error: float
    error_float32: float | None
    tolerance: float
    compared: str
    inputs: tuple[tuple[int, ...], ...]
    outputs: int
    error_training: float | None = None
    objects: int | None = None

    def __str__(self) -> str:
        shapes = ", ".join("x".join(map(str, shape)) for shape in self.inputs)
        text = (
            f"sliced = masked: {self.compared or 'network'} on inputs {shapes}: relative "
            f"difference of {self.outputs} outputs {self.error:.1e} in float64 "
            f"(at most {self.tolerance:.0e})"
        )
        if self.error_float32 is not None:
            text += f", {self.error_float32:.1e} in float32"
        if self.error_training is not None:
            text += f"; in a step of training (gradients, statistics) {self.error_training:.1e}"
        if self.objects is not None:
            text += f"; the same {self.objects} objects predicted, in the same order"
        return text


def prove_slicing(
    scored: nn.Module,
    kept: Kept,
    sliced: nn.Module,
    *,
    tolerance: float = TOLERANCE,
    sizes: Sequence[tuple[int, int]] | None = None,
    forward: Forward | None = None,
    inputs: Sequence[Any] | None = None,
) -> Proof:
    """Prove that slicing changed nothing but the size of a network.

    Compared is the part that holds all units: the backbone, all its outputs, if they all lie
    there; else ``extract_feat`` of an OpenMMLab model with a neck, if they lie in these two. Of
    detectors, layers of the heads that hold units are compared one by one besides, each on random
    inputs of its own; else it is the network, such as a whole classifier whose head reads what is
    pruned. All is run in float64 and evaluation mode, and then one step of training: gradients and
    running statistics agree as well (:mod:`rarts_mm.widths.training_proof`), and names that share a
    parameter share it in both networks. Neither network is changed.

    Args:
        scored: The network with all its scores.
        kept: Unit name -> indices of the dimensions that ``sliced`` keeps.
        sliced: What :func:`~rarts_mm.widths.slice_network` made of a copy of it.
        tolerance: See :func:`prove_equal`.
        sizes: Heights and widths of the test images; by default sizes that windows do not divide.
        forward: ``forward(network, images)`` runs one of the two networks; needed only if they do
            not take a batch of images alone.
        inputs: What ``forward`` runs them on, in the place of random images.

    Raises:
        ProofError: See :func:`prove_equal`; or they are trained in different ways.
    """
    check_ties(scored, sliced)
    if forward is not None:
        return _prove_part(scored, kept, sliced, tolerance, sizes, "", forward, inputs)
    if attached(scored) is not None:
        return _prove_part(scored, kept, sliced, tolerance, sizes, "", run_whole, None)
    sites = scored_sites(scored)
    heads = _heads(scored, sites)
    proofs = []
    rest = [site.path for site in sites if site.path not in heads]
    if rest:
        path, run = _comparand(scored, rest)
        proofs.append(_prove_part(scored, kept, sliced, tolerance, sizes, path, run, None))
    for path, example in heads.items():
        run = call_with_several
        proofs.append(_prove_part(scored, kept, sliced, tolerance, sizes, path, run, [example]))
    return _worst(proofs)


def _heads(network: nn.Module, sites: Sequence[Site]) -> dict[str, tuple]:
    """Hosts outside backbone and neck that can be compared by themselves, with example inputs."""
    found = {}
    for site in sites:
        if site.path.partition(".")[0] in ("backbone", "neck") or not hasattr(network, "backbone"):
            continue
        example = site.adapter.example(site.host)
        if example is not None:
            found[site.path] = example
    return found


def _prove_part(
    scored: nn.Module,
    kept: Kept,
    sliced: nn.Module,
    tolerance: float,
    sizes: Sequence[tuple[int, int]] | None,
    path: str,
    forward: Forward,
    inputs: Sequence[Any] | None,
) -> Proof:
    """Compare one part of the networks; units elsewhere in it are sliced with it."""
    reference = evaluation_copy(scored.get_submodule(path), torch.float64)
    device = next(reference.parameters()).device
    if inputs is None:
        inputs = random_images(reference, sizes, forward)
        trained = inputs[0] if sizes else _small_image(reference, forward, inputs[0])
    else:
        inputs = moved(inputs, device)
        trained = inputs[0]
    prefix = f"{path}." if path else ""
    # A unit may have the very name of the part.
    local = {
        "" if name == path else name.removeprefix(prefix): indices
        for name, indices in kept.items()
        if name == path or name.startswith(prefix)
    }

    # Folding in float32 rounds, by more than the tolerance. So the scored network is sliced in
    # float64, the sliced one must have the very same weights up to its own precision, and is judged
    # with them in float64.
    exact = slice_network(copy.deepcopy(reference), local).state_dict()
    candidate = copy.deepcopy(sliced.get_submodule(path))
    _check_same_weights(exact, candidate.state_dict())
    candidate.to(torch.float64)
    with torch.no_grad():
        # Not load_state_dict: hosts have hooks there (Swin V2 drops its own buffers).
        for name, value in candidate.state_dict().items():
            value.copy_(exact[name])
    with masked(scores_of(reference), local):
        proof = prove_equal(
            reference, candidate, inputs, tolerance=tolerance, forward=forward, compared=path
        )
        objects = None
        if forward is run_whole:
            objects = compare_predictions(reference, candidate, inputs[0])
        error = training_difference(reference, local, candidate, trained, forward)
    if error is not None and not error <= TRAINING_TOLERANCE:
        raise ProofError(
            "The sliced network computes what the masked one computes, but does not train as it does: "
            f"the relative difference of gradients or running statistics of {path or 'the network'} "
            f"after one step is {error:.3g} in float64, at most {TRAINING_TOLERANCE:.0e} is rounding. "
            "It must not be used; please report the layers it has."
        )
    return replace(proof, error_training=error, objects=objects)


def _small_image(network: nn.Module, forward: Forward, otherwise: Tensor) -> Tensor:
    """Images for the step of training, which shows what it shows at any size; ``otherwise`` where the
    network refuses them."""
    try:
        return random_images(network, [TRAINING_SIZE], forward)[0]
    except ProofError:
        return otherwise


def _worst(proofs: Sequence[Proof]) -> Proof:
    """One proof that says what all of them say."""
    if len(proofs) == 1:
        return proofs[0]
    return Proof(
        error=max(p.error for p in proofs),
        error_float32=max(p.error_float32 for p in proofs),
        tolerance=max(p.tolerance for p in proofs),
        compared=", ".join(p.compared or "network" for p in proofs),
        inputs=tuple(shape for p in proofs for shape in p.inputs),
        outputs=sum(p.outputs for p in proofs),
        error_training=max(
            (p.error_training for p in proofs if p.error_training is not None), default=None
        ),
    )


def prove_equal(
    reference: nn.Module,
    sliced: nn.Module,
    inputs: Iterable[Any],
    *,
    tolerance: float = TOLERANCE,
    forward: Forward | None = None,
    compared: str = "",
) -> Proof:
    """Prove that two networks compute the same, up to rounding in float64.

    Both are run on deep copies, in evaluation mode; the networks are not changed.

    Args:
        reference: The masked network.
        sliced: The sliced network.
        inputs: Inputs; floating point tensors in them are converted as the networks are.
        tolerance: Largest max |difference| / max |reference|, per output tensor.
        forward: ``forward(network, input)``; ``network(input)`` by default.
        compared: What is compared, for the message.

    Raises:
        ProofError: The difference is above the tolerance or not a number, the outputs differ in
            number or shape, or there are none.
    """
    inputs = list(inputs)
    errors, outputs = {}, 0
    for dtype in (torch.float32, torch.float64):
        networks = [evaluation_copy(network, dtype) for network in (reference, sliced)]
        error = 0.0
        for item in inputs:
            wanted, found = (run(network, item, dtype, forward) for network in networks)
            if not wanted or [t.shape for t in wanted] != [t.shape for t in found]:
                raise ProofError(
                    f"The outputs of {compared or 'the network'} have shapes "
                    f"{[tuple(t.shape) for t in wanted]} when masked, but "
                    f"{[tuple(t.shape) for t in found]} when sliced."
                )
            outputs = len(wanted)
            error = max(error, *map(relative_difference, wanted, found))
        errors[dtype] = error
    proof = Proof(
        error=errors[torch.float64],
        error_float32=errors[torch.float32],
        tolerance=tolerance,
        compared=compared,
        inputs=tuple(tuple(t.shape) for item in inputs for t in tensors_in(item)),
        outputs=outputs,
    )
    if not inputs or not proof.error <= tolerance:
        raise ProofError(
            f"The sliced network does not compute what the masked one computes: the relative "
            f"difference of {compared or 'their outputs'} is {proof.error:.3g} in float64, at most "
            f"{tolerance:.0e} is rounding. It must not be used; please report the layers it has."
        )
    return proof


def _comparand(network: nn.Module, hosts: list[str]) -> tuple[str, Forward]:
    def inside(*parts: str) -> bool:
        return all(path.partition(".")[0] in parts for path in hosts)

    if hasattr(network, "backbone") and inside("backbone"):
        return "backbone", call
    if hasattr(network, "extract_feat") and inside("backbone", "neck"):
        return "", lambda module, images: module.extract_feat(images)
    return "", call


def _check_same_weights(exact: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    if exact.keys() != found.keys():
        raise ProofError(
            "The sliced network has other parameters than slicing makes: "
            f"{sorted(exact.keys() ^ found.keys())[:3]} are only in one of them."
        )
    for name, wanted in exact.items():
        value = found[name]
        if value.shape != wanted.shape:
            raise ProofError(
                f"{name} of the sliced network has shape {tuple(value.shape)}, but slicing makes "
                f"it {tuple(wanted.shape)}."
            )
        allowed = torch.zeros_like(wanted, dtype=torch.float64)
        if value.is_floating_point():
            # Score and product are rounded once each.
            rounding = torch.finfo(value.dtype)
            allowed = 2 * rounding.eps * wanted.double().abs() + rounding.smallest_normal
        difference = (wanted.double() - value.double()).abs()
        if not bool((difference <= allowed).all()):
            raise ProofError(
                f"{name} of the sliced network differs from the folded and sliced weights of the "
                f"scored one by {difference.max().item():.3g}."
            )
