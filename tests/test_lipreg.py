"""The regularizer against hand-computed numbers, Eq. 2 and Eq. 3, and finite differences."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import LipReg, lipschitz_constant
from models.lipreg import NORMALISATIONS

# One window, three steps of two channels. Neighbours differ along time by (2, 4) and (1, 5),
# along features by 1, 3 and 7; minimum 2, maximum 12.
X = torch.tensor([[[2.0, 3.0], [4.0, 7.0], [5.0, 12.0]]])
TIME = (4 + 16 + 1 + 25) / 4
FEATURE = (1 + 9 + 49) / 3
DIVISORS = {"max": 12, "range": 10, "none": 1}
each_norm = pytest.mark.parametrize("how", NORMALISATIONS)


@each_norm
def test_hand_computed(how):
    divisor = DIVISORS[how]
    assert LipReg(X, transpose=False, normalize=how).item() == pytest.approx(TIME / divisor**2)
    assert LipReg(X, transpose=True, normalize=how).item() == pytest.approx(FEATURE / divisor**2)
    constant = lipschitz_constant(X, normalize=how).item()
    assert constant == pytest.approx((2 + 5) / 2 / divisor)


def test_published_arguments():
    assert LipReg(X).item() == pytest.approx(FEATURE / 12**2)
    assert LipReg(X, True, False).item() == pytest.approx(FEATURE)
    assert LipReg(X, False, True).item() == pytest.approx(TIME / 12**2)


@each_norm
@pytest.mark.parametrize("value", [7.0, 0.0, -7.0])
def test_a_constant_is_zero_with_zero_gradient(how, value):
    for function in (LipReg, lipschitz_constant):
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


@given(st.lists(st.tuples(*[st.floats(-100, 100, width=32)] * 2), min_size=2, max_size=30))
def test_equations_on_two_sequences(values):
    """Eq. 3 and Eq. 2 term by term, averaged over the batch."""
    x = torch.tensor(values, dtype=torch.float64).T[:, :, None]  # [2, L, 1]
    steps = [[b[i + 1] - b[i] for i in range(len(values) - 1)] for b in x.flatten(1).tolist()]
    eq3 = sum(step**2 for each in steps for step in each) / 2 / (len(values) - 1)
    assert LipReg(x, transpose=False, normalize=False).item() == pytest.approx(eq3)
    eq2 = sum(max(abs(step) for step in each) for each in steps) / 2
    assert lipschitz_constant(x).item() == pytest.approx(eq2)


@each_norm
@pytest.mark.parametrize("transpose", [True, False])
def test_gradient(how, transpose):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, 5, 4, dtype=torch.float64, generator=generator, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: LipReg(x, transpose, how), x)
    assert torch.autograd.gradcheck(lambda x: lipschitz_constant(x, how), x)


@pytest.mark.parametrize("function", [LipReg, lipschitz_constant])
def test_errors(function):
    with pytest.raises(ValueError, match="3-D"):
        function(torch.zeros(4, 5))
    with pytest.raises(ValueError, match="unknown normalisation 'min'"):
        function(X, normalize="min")


def test_two_steps_are_needed_along_the_axis():
    step, feature = torch.ones(2, 1, 3), torch.ones(2, 3, 1)
    assert LipReg(step, transpose=True).item() == LipReg(feature, transpose=False).item() == 0
    for x, axis in ((step, 1), (feature, 2)):
        with pytest.raises(ValueError, match=f"at least 2 steps on axis {axis}"):
            LipReg(x, transpose=axis == 2)
    with pytest.raises(ValueError, match="at least 2 steps on axis 1"):
        lipschitz_constant(step)


def test_half_precision_does_not_overflow():
    x = torch.randn(8, 96, 512, generator=torch.Generator().manual_seed(0))
    half, single = (LipReg(each, transpose=False, normalize=False) for each in (x.half(), x))
    torch.testing.assert_close(half.float(), single, rtol=1e-2, atol=0)
