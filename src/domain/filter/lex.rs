//! The words of a filter, each with its place.

use super::Comparison;

/// One word, and the place of its first character, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Letters, digits, `_` and `-`, the first one no `-`.
    Word(String),
    /// Text in double quotes, without them.
    Text(String),
    /// `=`, `<`, …
    Compare(Comparison),
    Colon,
    Dot,
    Minus,
    Open,
    Close,
}

/// Whether this can stand for a label's key without quotes.
pub(super) fn is_plain_word(text: &str) -> bool {
    text.chars().next().is_some_and(begins_word) && text.chars().all(continues_word)
}

const fn begins_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

const fn continues_word(c: char) -> bool {
    begins_word(c) || c == '-'
}

impl What {
    /// As it stood there, for messages.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Word(word) => word.clone(),
            Self::Text(text) => format!("\"{text}\""),
            Self::Compare(by) => by.to_string(),
            Self::Colon => ":".into(),
            Self::Dot => ".".into(),
            Self::Minus => "-".into(),
            Self::Open => "(".into(),
            Self::Close => ")".into(),
        }
    }
}

/// Takes a filter apart.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().zip(1..).peekable();
    while let Some((c, at)) = rest.next() {
        let mut followed_by = |wanted| rest.next_if(|(c, _)| *c == wanted).is_some();
        let what = match c {
            c if c.is_whitespace() => continue,
            '(' => What::Open,
            ')' => What::Close,
            ':' => What::Colon,
            '.' => What::Dot,
            '-' => What::Minus,
            '=' if followed_by('=') => return Err(wrong(at, "\"==\" is written \"=\" here")),
            '=' => What::Compare(Comparison::Equal),
            '!' if followed_by('=') => What::Compare(Comparison::NotEqual),
            '!' => return Err(wrong(at, "\"!\" is written NOT here")),
            '<' if followed_by('=') => What::Compare(Comparison::LessOrEqual),
            '<' if followed_by('>') => {
                return Err(wrong(at, "\"<>\" is written \"!=\" here"));
            }
            '<' => What::Compare(Comparison::Less),
            '>' if followed_by('=') => What::Compare(Comparison::GreaterOrEqual),
            '>' => What::Compare(Comparison::Greater),
            '&' => return Err(wrong(at, "\"&\" is written AND here")),
            '|' => return Err(wrong(at, "\"|\" is written OR here")),
            '\'' => return Err(wrong(at, "text stands in double quotes")),
            ',' => {
                return Err(wrong(
                    at,
                    "there are no lists; join comparisons, as state = RUNNING OR state = PAUSED",
                ));
            }
            '*' => {
                return Err(wrong(
                    at,
                    "there are no wildcards; ask for presence as labels:key, or as \
                     end_time > \"1970-01-01T00:00:00Z\"",
                ));
            }
            '"' => What::Text(quoted(at, &mut rest)?),
            c if begins_word(c) => {
                let mut word = String::from(c);
                while let Some((c, _)) = rest.next_if(|(c, _)| continues_word(*c)) {
                    word.push(c);
                }
                What::Word(word)
            }
            c => {
                let shown = c.escape_debug();
                return Err(wrong(at, &format!("{shown} means nothing here; quote text")));
            }
        };
        tokens.push(Token { at, what });
    }
    Ok(tokens)
}

fn quoted(begin: usize, rest: &mut impl Iterator<Item = (char, usize)>) -> Result<String, String> {
    let mut text = String::new();
    while let Some((c, at)) = rest.next() {
        match c {
            '"' => return Ok(text),
            '\0' => return Err(wrong(at, "text holds no NUL")),
            '\\' => match rest.next() {
                Some((c @ ('"' | '\\'), _)) => text.push(c),
                Some(_) | None => {
                    return Err(wrong(at, "a backslash is written \\\\, a double quote \\\""));
                }
            },
            c => text.push(c),
        }
    }
    Err(wrong(begin, "this text has no closing double quote"))
}

/// What is wrong, and where.
pub(super) fn wrong(at: usize, what: &str) -> String {
    format!("at character {at}: {what}")
}
