"""DLinear: a decomposed series and two linear maps, the baseline that every reader asks for.

Zeng, Chen, Zhang, Xu: "Are Transformers Effective for Time Series Forecasting?", AAAI 2023.
"""

from typing import Any

import torch
from torch import Tensor, nn

from models.autoformer import decompose
from models.layers import Linear
from models.model import Forecast, check_names


class DLinear(nn.Module):
    """Trend and rest of each channel, mapped from seq_len to out_len steps; channels share maps."""

    def __init__(
        self, *, seq_len: int, out_len: int, c_out: int, moving_avg: int, amp: str = "off", **_: Any
    ) -> None:
        super().__init__()
        check_names(amp=amp)
        self.moving_avg, self.c_out, self.amp = moving_avg, c_out, amp
        self.seasonal, self.trend = Linear(seq_len, out_len), Linear(seq_len, out_len)

    def forward(self, x_enc: Tensor, *_: Tensor) -> Forecast:
        """Forecast from scaled values [B, L, C]; nothing is embedded, so there is no LipReg."""
        x = x_enc.to(torch.bfloat16) if self.amp == "bf16" else x_enc
        seasonal, trend = decompose(x, self.moving_avg)
        pred = (self.seasonal(seasonal.mT) + self.trend(trend.mT)).mT  # [B, out_len, C]
        return Forecast(pred[..., -self.c_out :].to(x_enc.dtype), None, None, None)
