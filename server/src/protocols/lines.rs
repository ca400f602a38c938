//! Lines of a limited length out of bytes that arrive in pieces. Pure.

/// Memory that is kept for further lines.
const KEPT_BYTES: usize = 64 << 10;

/// Splits bytes into lines.
pub(crate) struct LineSplitter {
    max_bytes: usize,
    bytes: Vec<u8>,
    /// Position at which the next line begins.
    start: usize,
    /// Position up to which no further line end was found.
    searched: usize,
}

/// A line is longer than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

impl LineSplitter {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { max_bytes, bytes: Vec::new(), start: 0, searched: 0 }
    }

    /// Number of bytes that wait for the rest of their line.
    pub(crate) fn n_bytes(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Takes a piece in, once [`LineSplitter::next`] has returned all lines of the pieces before.
    pub(crate) fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// The next complete line, without its end; `None` if more bytes are needed.
    ///
    /// # Errors
    /// [`TooLong`], also if the end of such a line has not arrived.
    pub(crate) fn next(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let end = self.bytes[self.searched..].iter().position(|&byte| byte == b'\n');
        let end = end.map(|at| self.searched + at);
        let n_bytes = end.unwrap_or(self.bytes.len()) - self.start;
        if n_bytes > self.max_bytes {
            return Err(TooLong);
        }
        self.searched = end.map_or(self.bytes.len(), |end| end + 1);
        let Some(end) = end else {
            self.forget_lines();
            return Ok(None);
        };
        let start = std::mem::replace(&mut self.start, end + 1);
        Ok(Some(&self.bytes[start..end]))
    }

    /// Gives the memory of the lines back that were returned: the next piece may come late.
    fn forget_lines(&mut self) {
        self.bytes.drain(..self.start);
        self.searched -= self.start;
        self.start = 0;
        let n_wanted = (2 * self.bytes.len()).max(KEPT_BYTES);
        if self.bytes.capacity() > 2 * n_wanted {
            self.bytes.shrink_to(n_wanted);
        }
    }

    /// The bytes after the last line end, if any.
    pub(crate) fn take_rest(&mut self) -> Option<&[u8]> {
        let start = std::mem::replace(&mut self.start, self.bytes.len());
        self.searched = self.start;
        (start < self.start).then(|| &self.bytes[start..])
    }
}

#[cfg(test)]
mod tests {
    use super::{LineSplitter, TooLong};

    /// Checks the lines of a text that arrives in pieces of `n` bytes, with a limit of 5.
    fn check_lines(text: &str, n: usize, wanted: Result<&[&str], &[&str]>) {
        let mut lines = LineSplitter::new(5);
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
            seen.extend(lines.take_rest().map(|rest| String::from_utf8(rest.to_vec()).unwrap()));
            assert_eq!(lines.take_rest(), None);
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
    fn line_splitter_finds_the_same_lines_in_pieces_of_any_size() {
        for n in 1..20 {
            check_lines("ab\n\n12345\nc", n, Ok(&["ab", "", "12345", "c"]));
            check_lines("ab\ncd\n", n, Ok(&["ab", "cd"]));
            check_lines("", n, Ok(&[]));
            check_lines("ab\n123456\nc", n, Err(&["ab"]));
            check_lines("ab\n123456", n, Err(&["ab"]));
        }
    }
}
