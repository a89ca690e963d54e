"""Exam in, result out: scores screening mammograms. Not a medical device; not for clinical use."""
