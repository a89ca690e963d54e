"""Running a batch: read ahead, score, write, account for every exam."""
