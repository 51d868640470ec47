//! Cuts a stream of bytes into lines, with a bound on what is kept of one that
//! never ends.

use crate::domain::limits;

/// Of a line that may be JSON: a result of the largest size, of which every byte is
/// written as an escape (`\u0001`), and room for what stands around it.
pub(super) const JSON_LINE_BYTES: usize = 6 * limits::PAYLOAD_BYTES + (64 << 10);
/// Of any other line: its end. Enough for a message of the largest size.
const TEXT_LINE_BYTES: usize = 8 << 10;
/// What is kept allocated between lines.
const IDLE_BYTES: usize = 64 << 10;

/// A piece of output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole line, ended by a line feed or a carriage return.
    Line(&'a [u8]),
    /// The end of a line that has no end yet; it will be part of a later piece.
    Unfinished(&'a [u8]),
    /// The beginning of what looked like JSON and is too long for it.
    TooLong(&'a [u8]),
}

#[derive(Debug)]
pub(super) struct Lines {
    line: Vec<u8>,
    /// Whether a line that begins with `{` is kept as a whole.
    json: bool,
}

impl Lines {
    pub(super) const fn new(json: bool) -> Self {
        Self { line: Vec::new(), json }
    }

    /// Takes what was read and gives its pieces to `each`.
    pub(super) fn feed(&mut self, read: &[u8], mut each: impl FnMut(Piece<'_>)) {
        let mut rest = read;
        while let Some(end) = rest.iter().position(|b| matches!(b, b'\n' | b'\r')) {
            self.push(&rest[..end], &mut each);
            self.end(&mut each);
            rest = &rest[end + 1..];
        }
        if rest.is_empty() {
            return;
        }
        self.push(rest, &mut each);
        if !self.may_be_json() {
            each(Piece::Unfinished(&self.line));
        }
    }

    /// The stream has ended: so has its last line.
    pub(super) fn end(&mut self, each: &mut impl FnMut(Piece<'_>)) {
        if !self.line.is_empty() {
            each(Piece::Line(&self.line));
        }
        self.line.clear();
        self.line.shrink_to(IDLE_BYTES);
    }

    fn push(&mut self, bytes: &[u8], each: &mut impl FnMut(Piece<'_>)) {
        self.line.extend_from_slice(bytes);
        if self.may_be_json() {
            if self.line.len() <= JSON_LINE_BYTES {
                return;
            }
            each(Piece::TooLong(&self.line));
        }
        if self.line.len() > 2 * TEXT_LINE_BYTES {
            // Not at every byte, and never as what it no longer is.
            let cut = self.line.len() - TEXT_LINE_BYTES;
            self.line.drain(..cut);
            if let Some(first) = self.line.first_mut() {
                *first = b' ';
            }
            self.line.shrink_to(IDLE_BYTES);
        }
    }

    fn may_be_json(&self) -> bool {
        self.json && self.line.iter().find(|b| !b.is_ascii_whitespace()) == Some(&b'{')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(json: bool, reads: &[&[u8]]) -> (Vec<String>, Vec<String>) {
        let (mut whole, mut parts) = (Vec::new(), Vec::new());
        let mut lines = Lines::new(json);
        let mut each = |piece: Piece<'_>| match piece {
            Piece::Line(line) => whole.push(String::from_utf8_lossy(line).into_owned()),
            Piece::Unfinished(part) => parts.push(String::from_utf8_lossy(part).into_owned()),
            Piece::TooLong(part) => parts.push(format!("too long: {}", part.len())),
        };
        for read in reads {
            lines.feed(read, &mut each);
        }
        lines.end(&mut each);
        (whole, parts)
    }

    #[test]
    fn lines_end_at_either_end_of_line() {
        let (whole, parts) = lines(true, &[b"a\nb\r", b"\nc", b"d\r\re"]);
        assert_eq!(whole, ["a", "b", "cd", "e"]);
        assert_eq!(parts, ["c", "e"]);
    }

    #[test]
    fn a_line_without_end_is_bounded() {
        let part = vec![b'x'; 5_000];
        let mut lines = Lines::new(true);
        for _ in 0..1_000 {
            lines.feed(&part, |_| {});
            assert!(lines.line.capacity() <= IDLE_BYTES);
        }
    }

    #[test]
    fn json_is_kept_whole_up_to_its_bound() {
        let mut line = b"{\"result\":\"".to_vec();
        line.resize(JSON_LINE_BYTES - 2, b'x');
        line.extend_from_slice(b"\"}");
        let (whole, parts) = lines(true, &[&line[..70_000], &line[70_000..], b"\n"]);
        assert_eq!((whole[0].len(), parts.len()), (JSON_LINE_BYTES, 0));

        let (whole, parts) = lines(true, &[&line, b"xxx", b"50%\n"]);
        assert_eq!(parts[0], format!("too long: {}", JSON_LINE_BYTES + 3));
        assert!(whole[0].ends_with("50%") && whole[0].len() <= 2 * TEXT_LINE_BYTES);

        let (whole, _) = lines(false, &[&line]);
        assert!(whole[0].len() <= 2 * TEXT_LINE_BYTES);
    }
}
