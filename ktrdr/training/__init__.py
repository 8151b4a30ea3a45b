"""Trainings: features of past bars, a time-ordered split, a classifier, an honest baseline."""
