"""Speed against peers: each row is a ratio from one interleaved run."""
