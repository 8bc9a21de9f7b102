"""Series: their catalogue, labels and values."""
