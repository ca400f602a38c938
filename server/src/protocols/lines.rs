//! Bytes in pieces to lines of a limited length. Pure.

/// Lines that are coming in.
pub(crate) struct Lines {
    max_bytes: usize,
    bytes: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// How far no end of a line is.
    searched: usize,
}

/// A line is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl Lines {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, bytes: Vec::new(), start: 0, searched: 0 }
    }

    /// Takes a piece in, once [`Lines::next`] has given all lines of the pieces before.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        self.bytes.extend_from_slice(piece);
    }

    /// The next whole line, without its end.
    ///
    /// # Errors
    /// [`TooLong`], also before the end of such a line is there.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let end = self.bytes[self.searched..].iter().position(|&byte| byte == b'\n');
        let end = end.map(|at| self.searched + at);
        let n_bytes = end.unwrap_or(self.bytes.len()) - self.start;
        if n_bytes > self.max_bytes {
            return Err(TooLong);
        }
        self.searched = end.map_or(self.bytes.len(), |end| end + 1);
        Ok(end.map(|end| {
            let start = std::mem::replace(&mut self.start, end + 1);
            &self.bytes[start..end]
        }))
    }

    /// What is left after the last end of a line.
    pub(crate) fn rest(&mut self) -> Option<&[u8]> {
        let start = std::mem::replace(&mut self.start, self.bytes.len());
        self.searched = self.start;
        (start < self.start).then(|| &self.bytes[start..])
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, TooLong};

    /// What comes out of a text in pieces of `n` bytes, with a limit of 5.
    fn check(text: &str, n: usize, wanted: Result<&[&str], &[&str]>) {
        let mut lines = Lines::new(5);
        let mut seen: Vec<String> = Vec::new();
        let mut ended = Ok(());
        'pieces: for piece in text.as_bytes().chunks(n) {
            lines.push(piece);
            loop {
                match lines.next() {
                    Ok(Some(line)) => seen.push(String::from_utf8(line.to_vec()).unwrap()),
                    Ok(None) => break,
                    Err(TooLong) => {
                        ended = Err(());
                        break 'pieces;
                    }
                }
            }
        }
        if ended.is_ok() {
            seen.extend(lines.rest().map(|rest| String::from_utf8(rest.to_vec()).unwrap()));
            assert_eq!(lines.rest(), None);
        }
        let (lines, is_whole) = match wanted {
            Ok(lines) => (lines, true),
            Err(lines) => (lines, false),
        };
        assert_eq!(
            (seen.iter().map(|line| &line[..]).collect::<Vec<_>>(), ended.is_ok()),
            (lines.to_vec(), is_whole),
            "{text:?} in pieces of {n}"
        );
    }

    #[test]
    fn lines_are_the_same_in_pieces_of_any_size() {
        for n in 1..20 {
            check("ab\n\n12345\nc", n, Ok(&["ab", "", "12345", "c"]));
            check("ab\ncd\n", n, Ok(&["ab", "cd"]));
            check("", n, Ok(&[]));
            check("ab\n123456\nc", n, Err(&["ab"]));
            check("ab\n123456", n, Err(&["ab"]));
        }
    }
}
