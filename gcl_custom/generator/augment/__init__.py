"""What a generator does between encoding and decoding; pure, and knows no run."""
