"""Training of classifiers on features of past bars, evaluated against a baseline."""
