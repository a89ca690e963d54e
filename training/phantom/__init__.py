"""Simulated women: anatomy, lesions that grow, mammograms and tomosynthesis of them, and what a registry knows."""
