"""The regularizer against hand-computed numbers, Eq. 2 and Eq. 3, and finite differences."""

import pytest
import torch

from exp.exp_informer import lip_metrics
from models import LipReg, lipschitz_constant
from models.lipreg import NORMALISATIONS

# Two windows, three steps of two channels. Neighbours differ along time by (2, 4) and (1, 5),
# (-6, 0) and (0, 3); along features by 1, 3 and 7, -4, 2 and 5; minimum 2, maximum 12.
X = torch.tensor([[[2.0, 3], [4, 7], [5, 12]], [[9, 5], [3, 5], [3, 8]]])
TIME = (4 + 16 + 1 + 25 + 36 + 0 + 0 + 9) / 8  # Eq. 3
FEATURE = (1 + 9 + 49 + 16 + 4 + 25) / 6
STEEPEST = (2 + 5 + 6 + 3) / 4  # Eq. 2, of each channel of each window
DIVISORS = {"max": 12, "range": 10, "none": 1}
each_norm = pytest.mark.parametrize("how", NORMALISATIONS)


@each_norm
def test_hand_computed(how):
    divisor = DIVISORS[how]
    assert LipReg(X, transpose=False, normalize=how).item() == pytest.approx(TIME / divisor**2)
    assert LipReg(X, transpose=True, normalize=how).item() == pytest.approx(FEATURE / divisor**2)
    assert lipschitz_constant(X, normalize=how).item() == pytest.approx(STEEPEST / divisor)
    recorded = [TIME / divisor**2, FEATURE / divisor**2, STEEPEST / divisor]
    assert lip_metrics(X, how).tolist() == pytest.approx(recorded)


def test_default_and_published_arguments():
    assert lipschitz_constant(X).item() == pytest.approx(STEEPEST)
    assert LipReg(X).item() == pytest.approx(FEATURE / 12**2)
    assert LipReg(X, True, False).item() == pytest.approx(FEATURE)
    assert LipReg(X, False, True).item() == pytest.approx(TIME / 12**2)


@each_norm
def test_a_constant_is_zero_with_zero_gradient(how):
    for function in (LipReg, lipschitz_constant):
        for value in (7.0, 0.0, -7.0):
            x = torch.full((2, 5, 3), value, requires_grad=True)
            result = function(x, normalize=how)
            result.backward()
            assert result.item() == 0
            assert x.grad is not None and (x.grad == 0).all()


def test_max_of_an_embedding_without_positive_values():
    """What the docstring warns of: the largest value decides, however close to 0."""
    for largest, expected in ((-1.0, 1.0), (-1e-3, 1e6), (0.0, float("inf"))):
        x = torch.tensor([[[largest, largest - 1, largest - 2]]])
        assert LipReg(x).item() == pytest.approx(expected, rel=1e-3)
        assert lipschitz_constant(x.mT, "max").item() == pytest.approx(expected**0.5, rel=1e-3)
        assert LipReg(x, normalize="range").item() == pytest.approx(1 / 4)


@each_norm
@pytest.mark.parametrize("transpose", [True, False])
def test_gradient(how, transpose):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 5, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: LipReg(x, transpose, how), x)
    assert torch.autograd.gradcheck(lambda x: lipschitz_constant(x, how), x)


def test_what_is_refused():
    step, feature = torch.ones(2, 1, 3), torch.ones(2, 3, 1)
    assert LipReg(step, transpose=True).item() == LipReg(feature, transpose=False).item() == 0
    for refused, message in (
        (lambda: LipReg(torch.zeros(4, 5)), "3-D"),
        (lambda: LipReg(X, normalize="min"), "unknown normalisation 'min'"),
        (lambda: LipReg(step, transpose=False), "at least 2 steps on axis 1"),
        (lambda: LipReg(feature, transpose=True), "at least 2 steps on axis 2"),
        (lambda: lipschitz_constant(step), "at least 2 steps on axis 1"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()


def test_half_precision_does_not_overflow():
    x = torch.randn(8, 96, 512, generator=torch.Generator().manual_seed(0))
    half, single = (LipReg(each, transpose=False, normalize=False) for each in (x.half(), x))
    torch.testing.assert_close(half.float(), single, rtol=1e-2, atol=0)
