"""Drift: whether this week's exams, scores and rejections are those that the model, or the site, was accepted with."""
