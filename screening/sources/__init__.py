"""Where exams come from. Each source gives exams, rejections and a count that add up."""
