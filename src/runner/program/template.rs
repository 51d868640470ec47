//! One argument of a configured command, with places for what a task brings. What
//! is filled in stays inside its argument: nothing splits or expands it.

use serde_json::{Map, Value as Json};

/// An argument with placeholders: `{input.path}`, `{input.size.width}`,
/// `{input.files.0}`, `{input}` (all of it as JSON), `{task}` (`tasks/ID`) and
/// `{attempt}`. `{{` and `}}` stand for braces.
///
/// Text is filled in as it is; numbers, booleans, objects and lists as in JSON. A
/// null counts as missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Task,
    Attempt,
    /// Keys from the outermost on; none means all of it.
    Input(Vec<String>),
}

/// What the placeholders stand for.
pub(super) struct Values<'a> {
    pub(super) task: &'a str,
    pub(super) attempt: u32,
    pub(super) input: &'a Map<String, Json>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// What is wrong with it, and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '{' | '}' if chars.peek() == Some(&c) => {
                    chars.next();
                    plain.push(c);
                }
                '{' => {
                    let inside: String = chars.by_ref().take_while(|c| *c != '}').collect();
                    // What was taken ends with a brace, unless the text ended first.
                    let place = placeholder(&inside)?;
                    if !text.contains(&format!("{{{inside}}}")) {
                        return Err(format!("{text:?} has a '{{' without its '}}'"));
                    }
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(place);
                }
                '}' => return Err(format!("{text:?} has a '}}' without its '{{': write '}}}}'")),
                c => plain.push(c),
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { parts })
    }

    /// Fills in `values`; else the placeholder that nothing stands for.
    pub(super) fn render(&self, values: &Values<'_>) -> Result<String, String> {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(plain) => text.push_str(plain),
                Part::Task => text.push_str(values.task),
                Part::Attempt => text.push_str(&values.attempt.to_string()),
                Part::Input(keys) if keys.is_empty() => {
                    text.push_str(&Json::Object(values.input.clone()).to_string());
                }
                Part::Input(keys) => match lookup(values.input, keys) {
                    Some(Json::String(value)) => text.push_str(value),
                    None | Some(Json::Null) => return Err(format!("input.{}", keys.join("."))),
                    Some(
                        value
                        @ (Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_)),
                    ) => text.push_str(&value.to_string()),
                },
            }
        }
        Ok(text)
    }
}

fn placeholder(inside: &str) -> Result<Part, String> {
    match inside {
        "task" => return Ok(Part::Task),
        "attempt" => return Ok(Part::Attempt),
        "input" => return Ok(Part::Input(Vec::new())),
        _ => {}
    }
    let keys: Option<Vec<String>> = inside.strip_prefix("input.").and_then(|path| {
        path.split('.').map(|key| (!key.is_empty()).then(|| key.to_owned())).collect()
    });
    keys.map(Part::Input).ok_or_else(|| {
        format!(
            "{{{inside}}} is no placeholder: there are {{input.KEY}}, {{input}}, {{task}} and \
             {{attempt}}; for braces that stand for themselves write '{{{{' and '}}}}'"
        )
    })
}

fn lookup<'a>(input: &'a Map<String, Json>, keys: &[String]) -> Option<&'a Json> {
    let (first, rest) = keys.split_first()?;
    rest.iter().try_fold(input.get(first)?, |value, key| match value {
        Json::Object(map) => map.get(key),
        Json::Array(list) => list.get(key.parse::<usize>().ok()?),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str) -> Result<String, String> {
        let input = serde_json::json!({
            "path": "/a b/$(rm -rf x);\n", "w": 3, "f": 2.5, "on": true, "none": null,
            "size": {"w": 7}, "files": ["x", {"name": "y"}], "brace": "{input.w}",
        });
        let input = input.as_object().cloned().unwrap_or_default();
        let values = Values { task: "tasks/t", attempt: 2, input: &input };
        Template::parse(template).expect("a template").render(&values)
    }

    #[test]
    fn what_is_filled_in_stays_as_it_is() {
        for (template, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("{input.path}", "/a b/$(rm -rf x);\n"),
            ("-w{input.w}x{input.f}:{input.on}", "-w3x2.5:true"),
            ("{input.size.w}", "7"),
            ("{input.size}", "{\"w\":7}"),
            ("{input.files.0}{input.files.1.name}", "xy"),
            ("{input.brace}", "{input.w}"),
            ("{{{input.w}}} {{input.w}} }}{{", "{3} {input.w} }{"),
            ("{task}#{attempt}", "tasks/t#2"),
        ] {
            assert_eq!(rendered(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_the_input_lacks_is_named() {
        for (template, missing) in [
            ("a{input.x}", "input.x"),
            ("{input.none}", "input.none"),
            ("{input.size.h}", "input.size.h"),
            ("{input.w.x}", "input.w.x"),
            ("{input.files.9}", "input.files.9"),
        ] {
            assert_eq!(rendered(template), Err(missing.into()), "{template}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for bad in
            ["{", "}", "{input.w", "{inputs.w}", "{}", "{input.}", "{input..a}", "{print $1}"]
        {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }
}
