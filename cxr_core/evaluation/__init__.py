"""Predictions to numbers: metrics, calibration, intervals. No TensorFlow here."""

# What a summary of `metrics.summarise` has one number and one interval of, in the order of tables.
HEADLINES = (
    "auc",
    "average_precision",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "f1",
    "accuracy",
    "balanced_accuracy",
    "mcc",
    "log_loss",
    "brier",
    "ece",
)
