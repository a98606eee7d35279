"""The Lipschitz Regularizer and the forecasting models it is built into."""
