"""Predictions to numbers: metrics, calibration, intervals. No TensorFlow here."""
