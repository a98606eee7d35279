"""The Lipschitz Regularizer and the forecasting models it is built into."""

from models.lipreg import LipReg, lipschitz_constant
from models.model import Forecast, Informer, InformerStack

MODELS = {"informer": Informer, "informerstack": InformerStack}

__all__ = ["MODELS", "Forecast", "Informer", "InformerStack", "LipReg", "lipschitz_constant"]
