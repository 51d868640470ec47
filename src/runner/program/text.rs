//! Makes what a program writes for a terminal fit to be read elsewhere.

use std::borrow::Cow;

/// One line without escape sequences and control characters, trimmed.
pub(super) fn line(raw: &str) -> String {
    let plain = without_escapes(raw);
    let spaced: String = plain
        .chars()
        .filter_map(|c| match c {
            '\t' => Some(' '),
            c if c.is_control() => None,
            c => Some(c),
        })
        .collect();
    spaced.trim().to_owned()
}

/// Several lines, each as a terminal would show it at last: after a carriage return
/// it is written anew.
pub(super) fn lines(raw: &str) -> String {
    let shown: Vec<String> = raw
        .split('\n')
        .map(|text| text.trim_end_matches('\r'))
        .map(|text| text.rsplit('\r').next().unwrap_or_default())
        .map(|text| line(text).clone())
        .filter(|text| !text.is_empty())
        .collect();
    shown.join("\n")
}

/// Without ECMA-48 escape sequences (colours, cursor moves, titles).
fn without_escapes(raw: &str) -> Cow<'_, str> {
    const ESCAPE: char = '\u{1b}';
    if !raw.contains(ESCAPE) {
        return Cow::Borrowed(raw);
    }
    let mut plain = String::with_capacity(raw.len());
    let mut chars = raw.chars();
    while let Some(c) = chars.next() {
        if c != ESCAPE {
            plain.push(c);
            continue;
        }
        match chars.next() {
            // CSI: parameters, then a final byte.
            Some('[') => {
                let _final = chars.by_ref().find(|c| ('@'..='~').contains(c));
            }
            // OSC and other strings: up to BEL or ST.
            Some(']' | 'P' | '_' | '^' | 'X') => {
                while let Some(c) = chars.next() {
                    if c == '\u{7}' {
                        break;
                    }
                    if c == ESCAPE {
                        chars.next();
                        break;
                    }
                }
            }
            // One intermediate byte, then a final one.
            Some('(' | ')' | '#' | '%' | ' ') => {
                chars.next();
            }
            Some(_) | None => {}
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_read_is_left() {
        assert_eq!(line(" \u{1b}[1;31mred\u{1b}[0m\ta\0b\u{8} "), "red ab");
        assert_eq!(line("\u{1b}]0;title\u{7}x\u{1b}]8;;u\u{1b}\\y\u{1b}(Bz\u{1b}[2K"), "xyz");
        assert_eq!(line("\u{1b}[31"), "");
        assert_eq!(lines("10%\r20%\rdone\r\n\nerror: x\n"), "done\nerror: x");
    }
}
