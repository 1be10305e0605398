"""Muon by hand and beside torch's, whose Newton-Schulz steps are bfloat16 unless they are told otherwise here."""

from __future__ import annotations

import pytest
import torch

from gdpo.tiny.muon import COEFFICIENTS, MOMENTUM, STEPS, Muon, orthogonal

SHAPES = [(6, 6), (4, 9), (9, 4)]


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def after_steps(value: float) -> float:
    """What the steps make of one singular value."""
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        value = a * value + b * value**3 + c * value**5
    return value


def trained(optimizer: type, shape: tuple[int, int], **options: object) -> torch.Tensor:
    """A matrix after three steps on gradients that are drawn."""
    matrix = torch.nn.Parameter(drawn(*shape))
    chosen = optimizer([matrix], lr=0.02, **options)
    for step in range(3):
        matrix.grad = drawn(*shape, seed=step + 1)
        chosen.step()
    return matrix.detach()


def test_orthogonal_by_hand():
    """diag(3, 4) has norm 5. Its singular values 0.6 and 0.8 go through the polynomial alone, and no vector turns.

    One step of 0.6: 3.4445 * 0.6 - 4.775 * 0.216 + 2.0315 * 0.07776 = 1.1933.
    One step of 0.8: 2.7556 - 2.4448 + 0.6657 = 0.9765.
    """
    a, b, c = COEFFICIENTS
    once = [round(a * x + b * x**3 + c * x**5, 4) for x in (0.6, 0.8)]
    assert once == [1.1933, 0.9765]
    found = orthogonal(torch.diag(torch.tensor([3.0, 4.0])))
    torch.testing.assert_close(found, torch.diag(torch.tensor([after_steps(0.6), after_steps(0.8)])))


def test_a_step_by_hand():
    """From 0, the first momentum of gradient g is 0.05 g, and Nesterov's 0.05 g + 0.95 * 0.05 g is g by 0.0975.

    Its length is nothing to what is made orthogonal: of a column of two rows, g / |g| through the polynomial, times
    sqrt(2 / 1) and the rate. The second gradient is 0, so that the update points where the first did.
    """
    column = torch.nn.Parameter(torch.zeros(2, 1))
    optimizer = Muon([column], lr=0.1)
    expected = -0.1 * 2**0.5 * after_steps(1.0) * torch.tensor([[0.6], [0.8]])
    column.grad = torch.tensor([[3.0], [4.0]])
    optimizer.step()
    torch.testing.assert_close(column.detach(), expected)
    torch.testing.assert_close(optimizer.state[column]["momentum"], (1 - MOMENTUM) * column.grad)
    column.grad = torch.zeros(2, 1)
    optimizer.step()
    torch.testing.assert_close(column.detach(), 2 * expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_near_1_and_their_vectors_stay(shape):
    matrix = drawn(*shape)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    expected = torch.tensor([after_steps(float(value)) for value in values / values.norm()])
    found = orthogonal(matrix)
    assert found.shape == matrix.shape and found.dtype == torch.float32
    torch.testing.assert_close(found, left @ torch.diag(expected) @ right, rtol=1e-3, atol=1e-4)
    large = values / values.norm() > 0.05
    assert large.sum() >= 3 and bool(((expected[large] > 0.6) & (expected[large] < 1.3)).all())


def test_a_tall_matrix_is_the_wide_one_on_its_side():
    matrix = drawn(4, 9)
    torch.testing.assert_close(orthogonal(matrix.T), orthogonal(matrix).T)


def test_a_gradient_of_zeros_moves_nothing():
    assert torch.equal(orthogonal(torch.zeros(3, 3)), torch.zeros(3, 3))


def test_a_parameter_without_a_gradient_stays():
    kept = torch.nn.Parameter(drawn(2, 2))
    optimizer = Muon([kept], lr=0.1)
    assert optimizer.step(lambda: 7.0) == 7.0
    assert torch.equal(kept.detach(), drawn(2, 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_updates_are_torch_s_in_float32(shape, monkeypatch):
    """torch.optim.Muon with its bfloat16 taken for float32: but for the order of sums the same."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: self.clone())
    torch.testing.assert_close(
        trained(Muon, shape), trained(torch.optim.Muon, shape, weight_decay=0.0), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_updates_are_torch_s_but_for_bfloat16(shape):
    """Three steps of 0.02; bfloat16 has 8 bits, and five steps of a polynomial with a slope of up to 3.4 add some."""
    ours, theirs = trained(Muon, shape), trained(torch.optim.Muon, shape, weight_decay=0.0)
    moved = (ours - drawn(*shape)).norm()
    assert 0 < (ours - theirs).norm() / moved < 0.05
