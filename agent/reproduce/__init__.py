"""The tables of "Distilling System 2 into System 1" (Yu et al. 2024, arXiv 2407.06023), run on a model of one's own."""
