"""Sampling inside `generate`, such that each row depends on its own seed and nothing else."""

from collections.abc import Sequence

import torch

from fucina.schemas.generation import GenerationRequest


class SeededDraw:
    """Logits processor that draws the next token of every row and leaves it as the only possible one.

    transformers draws a whole batch from one random stream, so an answer would depend on its neighbours. Here each
    row has a generator of its own and spends one uniform number a token, turned into a token by the inverse of the
    cumulative distribution over the nucleus, most likely first. Greedy search then takes what was drawn. Rows at
    temperature 0 are left alone.
    """

    def __init__(self, requests: Sequence[GenerationRequest]) -> None:
        sampled = [(row, request) for row, request in enumerate(requests) if request.sampling.temperature > 0]
        self._rows = [row for row, _ in sampled]
        self._temperature = torch.tensor([[request.sampling.temperature] for _, request in sampled])
        self._top_p = torch.tensor([[request.sampling.top_p] for _, request in sampled])
        # On the CPU whatever the model's device, so that a seed means the same numbers everywhere.
        self._generators = [torch.Generator().manual_seed(request.seed) for _, request in sampled]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores (rows, vocabulary) of the next token, -inf for all but the drawn one."""
        del input_ids
        if not self._rows:
            return scores
        logits = scores[self._rows].float()
        # The greatest becomes 0 first: a tiny temperature then gives -inf at worst, never nan.
        logits = (logits - logits.amax(-1, keepdim=True)) / self._temperature.to(logits.device)
        probabilities, tokens = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
        before = probabilities.cumsum(-1) - probabilities
        probabilities = probabilities.masked_fill(before >= self._top_p.to(logits.device), 0.0)
        mass = probabilities.cumsum(-1)
        uniform = torch.stack([torch.rand(1, generator=generator) for generator in self._generators])
        place = torch.searchsorted(mass, uniform.to(logits.device) * mass[:, -1:], right=True)
        # Rounding may carry the point to the very end, past the nucleus.
        place = place.minimum((probabilities > 0).sum(-1, keepdim=True) - 1)
        drawn = torch.full_like(logits, -torch.inf).scatter_(-1, tokens.gather(-1, place), 0.0)
        result = scores.clone()
        result[self._rows] = drawn.to(scores.dtype)
        return result
