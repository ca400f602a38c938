//! Scored Arrow batches in, new weights out.
