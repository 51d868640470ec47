//! Words to conditions, after the grammar of AIP-160 (<https://google.aip.dev/160>),
//! in which OR binds tighter than AND. Every value is checked against its field.

use std::iter::Peekable;

use super::{
    super::{DEFAULT_QUEUE, Name, limits::FILTER_CHARS},
    Comparison, Condition, NumberField, State, Test, TextField, TimeField, Timestamp,
    lex::{Token, What, tokens, wrong},
};

/// Parentheses and negations within one another; more would be no filter but an
/// attack on a stack, ours or the database's.
const DEPTH: usize = 32;

const FIELDS: [&str; 13] = [
    "state",
    "kind",
    "queue",
    "worker",
    "priority",
    "attempt",
    "name",
    "labels",
    "create_time",
    "update_time",
    "start_time",
    "end_time",
    "schedule_time",
];

/// `None` is the empty filter.
pub(super) fn parse(text: &str) -> Result<Option<Condition>, String> {
    if text.chars().count() > FILTER_CHARS {
        return Err(format!("is longer than {FILTER_CHARS} characters"));
    }
    let tokens = tokens(text)?;
    if tokens.is_empty() {
        return Ok(None);
    }
    let end = text.chars().count() + 1;
    let mut parser = Parser { rest: tokens.into_iter().peekable(), end };
    let condition = parser.all(0)?;
    match parser.rest.next() {
        None => Ok(Some(condition)),
        Some(token) => Err(leftover(&token)),
    }
}

fn leftover(token: &Token) -> String {
    let shown = token.what.shown();
    let what = match shown.as_str() {
        ")" => "this \")\" closes nothing".to_owned(),
        "and" | "or" | "not" => format!("{shown} is written {}", shown.to_uppercase()),
        _ => format!("{shown} follows without AND or OR"),
    };
    wrong(token.at, &what)
}

struct Parser {
    rest: Peekable<std::vec::IntoIter<Token>>,
    /// The place behind the last character.
    end: usize,
}

impl Parser {
    fn takes_word(&mut self, wanted: &str) -> bool {
        let is = |token: &Token| matches!(&token.what, What::Word(word) if word == wanted);
        self.rest.next_if(is).is_some()
    }

    fn takes(&mut self, wanted: &What) -> bool {
        self.rest.next_if(|token| token.what == *wanted).is_some()
    }

    /// The next word, or what should have stood there.
    fn expect(&mut self, what: &str) -> Result<Token, String> {
        self.rest.next().ok_or_else(|| wrong(self.end, &format!("{what} is missing")))
    }

    fn all(&mut self, depth: usize) -> Result<Condition, String> {
        let mut each = vec![self.any(depth)?];
        while self.takes_word("AND") {
            each.push(self.any(depth)?);
        }
        Ok(if each.len() == 1 { each.remove(0) } else { Condition::All(each) })
    }

    fn any(&mut self, depth: usize) -> Result<Condition, String> {
        let mut each = vec![self.term(depth)?];
        while self.takes_word("OR") {
            each.push(self.term(depth)?);
        }
        Ok(if each.len() == 1 { each.remove(0) } else { Condition::Any(each) })
    }

    fn term(&mut self, depth: usize) -> Result<Condition, String> {
        if depth > DEPTH {
            let at = self.rest.peek().map_or(self.end, |token| token.at);
            return Err(wrong(at, &format!("nested more than {DEPTH} deep: simplify it")));
        }
        if self.takes_word("NOT") || self.takes(&What::Minus) {
            return Ok(Condition::Not(Box::new(self.term(depth + 1)?)));
        }
        if self.takes(&What::Open) {
            let inner = self.all(depth + 1)?;
            let close = self.expect("a closing parenthesis")?;
            return if close.what == What::Close { Ok(inner) } else { Err(leftover(&close)) };
        }
        self.test().map(Condition::Test)
    }

    fn test(&mut self) -> Result<Test, String> {
        let token = self.expect("a comparison, as state = RUNNING,")?;
        let field = match &token.what {
            What::Word(word) if matches!(word.as_str(), "AND" | "OR") => {
                return Err(wrong(token.at, &format!("{word} joins two comparisons")));
            }
            What::Word(word) => word.clone(),
            What::Text(_)
            | What::Compare(_)
            | What::Colon
            | What::Dot
            | What::Minus
            | What::Open
            | What::Close => {
                let shown = token.what.shown();
                let what =
                    format!("a comparison, as state = RUNNING, must stand here, not {shown}");
                return Err(wrong(token.at, &what));
            }
        };
        if field == "labels" {
            return self.label();
        }
        self.no_more_than(&field, token.at)?;
        match field.as_str() {
            "state" => {
                let equal = self.equality("state")?;
                Ok(Test::State { equal, state: self.state()? })
            }
            "name" => {
                let (_, by) = self.comparison("name")?;
                let (at, text) = self.text("name", "tasks/x")?;
                let id = text.strip_prefix("tasks/").and_then(Name::new);
                let id = id.ok_or_else(|| wrong(at, "a name is written \"tasks/{task}\""))?;
                Ok(Test::Name(by, id))
            }
            "kind" => self.text_field(TextField::Kind),
            "queue" => self.text_field(TextField::Queue),
            "worker" => self.text_field(TextField::Worker),
            "priority" => self.number_field(NumberField::Priority),
            "attempt" => self.number_field(NumberField::Attempt),
            "create_time" => self.time_field(TimeField::Create),
            "update_time" => self.time_field(TimeField::Update),
            "start_time" => self.time_field(TimeField::Start),
            "end_time" => self.time_field(TimeField::End),
            "schedule_time" => self.time_field(TimeField::Schedule),
            other => Err(unknown(other, token.at)),
        }
    }

    /// No call, no subfield, no bare word.
    fn no_more_than(&mut self, field: &str, at: usize) -> Result<(), String> {
        let Some(next) = self.rest.peek() else {
            return Err(if FIELDS.contains(&field) {
                wrong(self.end, &format!("{field} must be compared with something"))
            } else {
                bare(field, at)
            });
        };
        match next.what {
            What::Open => Err(wrong(at, "there are no functions here")),
            What::Dot if FIELDS.contains(&field) => {
                Err(wrong(next.at, &format!("{field} has no fields; only labels has")))
            }
            What::Compare(_) | What::Colon | What::Dot => Ok(()),
            What::Word(_) | What::Text(_) | What::Minus | What::Close => {
                if FIELDS.contains(&field) {
                    Err(wrong(next.at, &format!("{field} must be compared with something")))
                } else {
                    Err(bare(field, at))
                }
            }
        }
    }

    fn comparison(&mut self, field: &str) -> Result<(usize, Comparison), String> {
        let token = self.expect("a comparison")?;
        match token.what {
            What::Compare(by) => Ok((token.at, by)),
            What::Colon => Err(wrong(
                token.at,
                &format!("\":\" is for labels, as labels:env; {field} is compared with \"=\""),
            )),
            What::Word(_) | What::Text(_) | What::Dot | What::Minus | What::Open | What::Close => {
                Err(wrong(token.at, &format!("{field} must be compared with something")))
            }
        }
    }

    fn equality(&mut self, field: &str) -> Result<bool, String> {
        match self.comparison(field)? {
            (_, Comparison::Equal) => Ok(true),
            (_, Comparison::NotEqual) => Ok(false),
            (
                at,
                Comparison::Less
                | Comparison::LessOrEqual
                | Comparison::Greater
                | Comparison::GreaterOrEqual,
            ) => Err(wrong(at, &format!("{field} has no order: use \"=\" or \"!=\""))),
        }
    }

    fn state(&mut self) -> Result<State, String> {
        let token = self.expect("a state")?;
        let shown = token.what.shown();
        match &token.what {
            What::Word(name) | What::Text(name) => State::from_name(name).ok_or_else(|| {
                let names: Vec<_> = State::ALL.iter().map(|state| state.name()).collect();
                let what = format!("{shown} is no state: use one of {}", names.join(", "));
                wrong(token.at, &what)
            }),
            What::Compare(_) | What::Colon | What::Dot | What::Minus | What::Open | What::Close => {
                Err(wrong(token.at, &format!("a state must stand here, not {shown}")))
            }
        }
    }

    /// Text in quotes, and its place.
    fn text(&mut self, field: &str, example: &str) -> Result<(usize, String), String> {
        let token = self.expect("a text in double quotes")?;
        match token.what {
            What::Text(text) => Ok((token.at, text)),
            What::Word(_)
            | What::Compare(_)
            | What::Colon
            | What::Dot
            | What::Minus
            | What::Open
            | What::Close => Err(wrong(
                token.at,
                &format!("{field} is compared with text in double quotes, as \"{example}\""),
            )),
        }
    }

    fn text_field(&mut self, field: TextField) -> Result<Test, String> {
        let (_, by) = self.comparison(field.name())?;
        let (_, text) = self.text(field.name(), "x")?;
        let text = match field {
            TextField::Queue if text.is_empty() => DEFAULT_QUEUE.to_owned(),
            TextField::Queue | TextField::Kind | TextField::Worker => text,
        };
        Ok(Test::Text(field, by, text))
    }

    fn number_field(&mut self, field: NumberField) -> Result<Test, String> {
        let name = field.name();
        let (_, by) = self.comparison(name)?;
        let negative = self.takes(&What::Minus);
        let token = self.expect("a whole number")?;
        let refused = || wrong(token.at, &format!("{name} is compared with a whole number, as 5"));
        let What::Word(digits) = &token.what else { return Err(refused()) };
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refused());
        }
        if let Some(dot) = self.rest.next_if(|next| next.what == What::Dot) {
            return Err(wrong(dot.at, &format!("{name} is a whole number")));
        }
        let text = if negative { format!("-{digits}") } else { digits.clone() };
        let number = text.parse().map_err(|_| wrong(token.at, "this number is too large"))?;
        Ok(Test::Number(field, by, number))
    }

    fn time_field(&mut self, field: TimeField) -> Result<Test, String> {
        const EXAMPLE: &str = "2026-01-31T12:00:00Z";
        let (_, by) = self.comparison(field.name())?;
        let (at, text) = self.text(field.name(), EXAMPLE)?;
        let time = Timestamp::parse(&text).ok_or_else(|| {
            wrong(at, &format!("a time is written as in RFC 3339, as \"{EXAMPLE}\""))
        })?;
        Ok(Test::Time(field, by, time))
    }

    /// `labels:key`, `labels.key = "value"`, and `labels.key:"value"`, which AIP-160
    /// reads as `=`.
    fn label(&mut self) -> Result<Test, String> {
        const HOW: &str = "labels are asked for as labels:env or labels.env = \"prod\"";
        let token = self.expect("\":\" or \".\" and a key")?;
        match token.what {
            What::Colon => return Ok(Test::HasLabel(self.key()?)),
            What::Dot => {}
            What::Word(_)
            | What::Text(_)
            | What::Compare(_)
            | What::Minus
            | What::Open
            | What::Close => return Err(wrong(token.at, HOW)),
        }
        let key = self.key()?;
        let token = self.expect("a comparison")?;
        let by = match token.what {
            What::Compare(by) => by,
            What::Colon => Comparison::Equal,
            What::Dot => {
                return Err(wrong(token.at, "quote a key with dots, as labels.\"a.b\""));
            }
            What::Word(_) | What::Text(_) | What::Minus | What::Open | What::Close => {
                return Err(wrong(token.at, HOW));
            }
        };
        let (_, value) = self.text("a label", "prod")?;
        Ok(Test::Label(key, by, value))
    }

    fn key(&mut self) -> Result<String, String> {
        let token = self.expect("a label's key")?;
        match token.what {
            What::Word(key) | What::Text(key) => Ok(key),
            What::Compare(_) | What::Colon | What::Dot | What::Minus | What::Open | What::Close => {
                Err(wrong(token.at, "a label's key must stand here, in double quotes if it is odd"))
            }
        }
    }
}

fn bare(word: &str, at: usize) -> String {
    match word {
        "and" | "or" | "not" => wrong(at, &format!("{word} is written {}", word.to_uppercase())),
        _ if nearest(word).is_some() => unknown(word, at),
        _ => wrong(at, &format!("{word} stands alone: compare a field, as state = RUNNING")),
    }
}

fn unknown(field: &str, at: usize) -> String {
    match (field, nearest(field)) {
        ("and" | "or" | "not", _) => bare(field, at),
        (_, Some(near)) => wrong(at, &format!("there is no field {field}; did you mean {near}?")),
        (_, None) => {
            wrong(at, &format!("there is no field {field}: use one of {}", FIELDS.join(", ")))
        }
    }
}

fn nearest(field: &str) -> Option<&'static str> {
    let distance = |known: &str| strsim::damerau_levenshtein(&field.to_lowercase(), known);
    let near = FIELDS.into_iter().min_by_key(|known| distance(known))?;
    // One slip in a short word, two in a longer one.
    (distance(near) <= near.len().div_ceil(4)).then_some(near)
}
