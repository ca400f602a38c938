//! Ranks that `torchrun` starts, as users start them.
