"""A training step captured as one CUDA graph.

At batch 32 an ordinary step waits for the launches of its kernels, one after the other. A graph
launches them all at once, and reads its inputs from tensors that are filled before each replay.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

EAGER = 3  # ordinary steps before the capture: they allocate what the graph must find in place


class Draws:
    """What the modules of a model draw on the host in a step: `draw` of each, once a step.

    Args:
        model: its modules that have a method `draw`, from sizes and a device to a tensor there.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules: list[Any] = [module for module in model.modules() if hasattr(module, "draw")]
        self.noted: dict[Any, tuple[tuple[Any, ...], Tensor]] = {}  # in the order of the draws

    @contextmanager
    def _hidden_by(self, function: Callable[..., Tensor]) -> Iterator[None]:
        for module in self.modules:
            module.draw = partial(function, module)
        try:
            yield
        finally:
            for module in self.modules:
                del module.draw  # the class's own is seen again

    def note(self) -> Any:
        """Return a context in which draws are made, and their tensors noted."""

        def draw(module: Any, *sizes: Any) -> Tensor:
            drawn = type(module).draw(module, *sizes)
            self.noted[module] = sizes, drawn
            return drawn

        return self._hidden_by(draw)

    def reuse(self) -> Any:
        """Return a context in which nothing is drawn: the noted tensors are read."""
        return self._hidden_by(lambda module, *_: self.noted[module][1])

    def renew(self) -> None:
        """Draw anew, in the noted order, into the noted tensors."""
        for module, (sizes, drawn) in self.noted.items():
            drawn.copy_(module.draw(*sizes))


class CapturedStep:
    """A training step that is captured after its first calls, and replayed from then on.

    The first EAGER calls are ordinary steps: a training does the same steps with and without it.

    Args:
        step: from the numbers of a batch's windows [B] to its measures [n], all of it on one CUDA
            device, the optimizer's part included, and nothing in it waiting for the device.
        model: whose `Draws` are renewed before each replay.
    """

    def __init__(self, step: Callable[[Tensor], Tensor], model: nn.Module) -> None:
        self.step, self.draws, self.calls = step, Draws(model), 0

    def __call__(self, index: Tensor) -> Tensor:
        """Do one step; the measures hold until the next."""
        self.calls += 1
        if self.calls < EAGER:
            return self._beside(index)
        if self.calls == EAGER:
            with self.draws.note():
                measures = self._beside(index).clone()
            self.index, self.graph = index.clone(), torch.cuda.CUDAGraph()
            with self.draws.reuse(), torch.cuda.graph(self.graph):
                self.measures = self.step(self.index)
            return measures
        self.index.copy_(index)
        self.draws.renew()
        self.graph.replay()
        return self.measures

    def _beside(self, index: Tensor) -> Tensor:
        """Do an ordinary step on another stream, as a capture demands of the steps before it."""
        main, beside = torch.cuda.current_stream(), torch.cuda.Stream()
        beside.wait_stream(main)
        with torch.cuda.stream(beside):
            measures = self.step(index)
        main.wait_stream(beside)
        return measures
