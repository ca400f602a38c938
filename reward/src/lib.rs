//! Groups in; matches, verdicts, ratings and rewards out.
