"""Networks for the slabs of tomosynthesis volumes, from volumes with marked lesions to a bundle that reads them so."""
