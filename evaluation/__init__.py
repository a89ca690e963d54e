"""Results and follow-up in, figures with intervals out."""
